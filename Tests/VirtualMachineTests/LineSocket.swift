import Foundation
import TestSupport

/// A peer that speaks in lines, over a Unix socket that it listens on. Nothing here waits longer than it is told to.
final class LineSocket {
  private let socket: Socket
  private var received: [UInt8] = []

  /// Connects as soon as the peer listens; `isAlive` is asked in between.
  init(path: String, within seconds: Int = 30, while isAlive: () -> Bool) throws {
    for _ in 0..<seconds * 200 {
      if let socket = try? Socket(path: path) {
        self.socket = socket
        return
      }
      try TestFailure.unless(isAlive(), "nobody listens on \(path)")
      usleep(5000)
    }
    throw TestFailure("nobody listens on \(path)")
  }

  /// Waits until somebody listens on a path, without being a client: some peers take one at a time. Ends with the peer,
  /// and after 20 s.
  static func wait(for path: String, while isAlive: () -> Bool) {
    for _ in 0..<10_000 where isAlive() {
      let sockets = String(decoding: all("/proc/net/unix"), as: UTF8.self)
      // The flags of a socket that accepts connections (proc(5)).
      if sockets.split(separator: "\n").contains(where: { $0.hasSuffix(" \(path)") && $0.contains(" 00010000 ") }) {
        return
      }
      usleep(2000)
    }
  }

  /// A file of the kernel's, to its end. Foundation takes what one read gives, a page, for all of it.
  private static func all(_ path: String) -> [UInt8] {
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
    defer { close(descriptor) }
    var (bytes, page) = ([UInt8](), [UInt8](repeating: 0, count: 65536))
    while true {
      let count = unsafe read(descriptor, &page, page.count)
      if count <= 0 { return bytes }
      bytes += page[..<count]
    }
  }

  func send(_ line: String) { socket.send(Array(line.utf8) + [UInt8(ascii: "\n")]) }

  /// The next line without its end; nil where none came within the time.
  func line(within seconds: Double) throws -> String? {
    let end = Date(timeIntervalSinceNow: seconds)
    while true {
      if let newline = received.firstIndex(of: UInt8(ascii: "\n")) {
        let line = received[..<newline].filter { $0 != UInt8(ascii: "\r") }
        received.removeSubrange(...newline)
        return String(decoding: line, as: UTF8.self)
      }
      let left = end.timeIntervalSinceNow
      guard left > 0, socket.hasInput(within: Int32(min(left * 1000, 60_000)) + 1) else { return nil }
      let bytes = socket.receive()
      try TestFailure.unless(!bytes.isEmpty, "the other end hung up")
      received += bytes
    }
  }
}
