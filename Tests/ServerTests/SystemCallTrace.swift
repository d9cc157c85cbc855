import Foundation
import TestSupport

/// What strace saw of a server: its writes to the image and their syncs, and what it answered in between. From that the
/// disk can be told that a power cut would leave at any moment: with every write that a sync has made durable, and
/// nothing else.
struct SystemCallTrace {
  enum Event {
    /// A positioned write has ended: only the image is written so.
    case wrote(offset: Int, [UInt8])
    /// A sync of the image begins, and ends well: what had been written before the beginning is durable from the end
    /// on.
    case syncBegan
    case synced
    /// Bytes that were sent, on any socket.
    case sent([UInt8])
  }

  private(set) var events: [Event] = []

  /// What strace is called with before the server's command.
  static func command(_ output: String) -> [String] {
    [
      "strace", "-f", "-qq", "-xx", "-s", "1048576", "-e", "signal=none", "-o", output,
      "-e", "trace=pwrite64,pwritev,pwritev2,fdatasync,fsync,sync_file_range,sendto,sendmsg",
    ]
  }

  /// Whether a process can be traced here.
  static let isAvailable: Bool = {
    guard let place = try? Place() else { return false }
    return (try? place.run(command("/dev/null") + ["true"]).status) == 0
  }()

  /// A line is `PID call(arguments) = result`, or, where another thread's calls came in between, that in two halves:
  /// `PID call(arguments <unfinished ...>` and `PID <... call resumed>) = result`.
  init(_ text: [UInt8]) throws {
    var image: Substring?
    var monitor: Substring?
    var unfinished: [Substring: String] = [:]
    for line in text.split(separator: UInt8(ascii: "\n")) {
      let line = String(decoding: line, as: UTF8.self)
      let parts = line.split(separator: " ", maxSplits: 1)
      guard parts.count == 2 else { continue }
      let (thread, rest) = (parts[0], parts[1].drop { $0 == " " })
      // The process that strace starts has no part in what a client is answered: its worker has the image.
      monitor = monitor ?? thread
      if thread == monitor { continue }
      var call = String(rest)
      var (begins, ends) = (true, true)
      if rest.hasSuffix(" <unfinished ...>") {
        call = String(rest.dropLast(17))
        unfinished[thread] = call
        ends = false
      } else if rest.hasPrefix("<... ") {
        guard let first = unfinished.removeValue(forKey: thread), let end = rest.firstIndex(of: ">") else { continue }
        call = first + rest[rest.index(after: end)...]
        begins = false
      }
      guard let parenthesis = call.firstIndex(of: "(") else { continue }
      let arguments = call[call.index(after: parenthesis)...]
      let descriptor = arguments.prefix { $0.isNumber }
      switch call[..<parenthesis] {
      case "pwrite64":
        image = image ?? descriptor
        try TestFailure.unless(image == descriptor, "two files are written to: \(call.prefix(100))")
        if ends { try addWrite(arguments) }
      case "fdatasync", "fsync":
        // Image and descriptor are known once it was written to.
        guard descriptor == image else { continue }
        if begins { events.append(.syncBegan) }
        if ends, call.hasSuffix(" = 0") { events.append(.synced) }
      case "sendto", "sendmsg":
        // What lies where only the kernel of this process may look goes to the monitor, which is no client.
        if ends, arguments.contains("\"") { events.append(.sent(try Self.bytes(arguments))) }
      default: throw TestFailure("a call that isn't expected: \(call.prefix(100))")
      }
    }
  }

  /// `4, "\x00\x01", 2, 16384) = 2`
  private mutating func addWrite(_ arguments: Substring) throws {
    let bytes = try Self.bytes(arguments)
    let numbers = arguments[(arguments.lastIndex(of: "\"") ?? arguments.startIndex)...].split { !$0.isNumber }
    guard numbers.count == 3, numbers[0] == numbers[2], Int(numbers[0]) == bytes.count, let offset = Int(numbers[1])
    else { throw TestFailure("not a whole write: \(arguments.suffix(60))") }
    events.append(.wrote(offset: offset, bytes))
  }

  /// The first string among the arguments, all in hexadecimal.
  private static func bytes(_ arguments: Substring) throws -> [UInt8] {
    let utf8 = arguments.utf8
    guard let start = utf8.firstIndex(of: UInt8(ascii: "\"")) else { throw TestFailure("no string: \(arguments)") }
    let rest = utf8[utf8.index(after: start)...]
    guard let end = rest.firstIndex(of: UInt8(ascii: "\"")) else { throw TestFailure("no end: \(arguments)") }
    return rest[..<end].split(separator: UInt8(ascii: "\\")).map {
      UInt8(String(decoding: $0.dropFirst(), as: UTF8.self), radix: 16) ?? 0
    }
  }

  /// The disk that a power cut leaves at each of these moments, from the disk at the beginning.
  func disks(_ first: [UInt8], after moments: Set<Int>) -> [Int: [UInt8]] {
    var disk = first
    var (pending, syncing): ([(Int, [UInt8])], [(Int, [UInt8])]) = ([], [])
    var found: [Int: [UInt8]] = [:]
    for (index, event) in events.enumerated() {
      switch event {
      case .wrote(let offset, let bytes): pending.append((offset, bytes))
      case .syncBegan:
        syncing += pending
        pending = []
      case .synced:
        for (offset, bytes) in syncing { disk.replaceSubrange(offset..<offset + bytes.count, with: bytes) }
        syncing = []
      case .sent: break
      }
      if moments.contains(index) { found[index] = disk }
    }
    return found
  }
}
