import Foundation
import TestSupport

/// The process that QEMU's `-tpmdev emulator` talks to: vnvram-swtpm on a place's image, or Debian's swtpm on a folder.
final class EmulatorServer {
  let socket: String
  private let process: Child
  private var hasEnded = false

  /// vnvram-swtpm with a TPM 2.0. On return it listens, or has ended.
  convenience init(_ place: Place, _ arguments: [String] = [], name: String = "tpm") throws {
    try self.init(
      place, name,
      ["vnvram-swtpm", "socket", "--tpm2", "--tpmstate", place.state ?? "backend-uri=vnvram://\(place.image)"]
        + arguments)
  }

  /// Debian's swtpm, its state in a folder of that name.
  static func swtpm(_ place: Place, _ arguments: [String] = [], name: String = "swtpm") throws -> EmulatorServer {
    let state = place.path("\(name).state")
    try FileManager.default.createDirectory(atPath: state, withIntermediateDirectories: true)
    return try EmulatorServer(place, name, ["swtpm", "socket", "--tpm2", "--tpmstate", "dir=\(state)"] + arguments)
  }

  /// vnvram-swtpm with a TPM 1.2, on an image with its profile.
  static func old(_ place: Place) throws -> EmulatorServer {
    try EmulatorServer(place, "tpm", ["vnvram-swtpm", "socket", "--tpmstate", "backend-uri=vnvram://\(place.image)"])
  }

  private init(_ place: Place, _ name: String, _ command: [String]) throws {
    socket = place.path("\(name).sock")
    unsafe unlink(socket)
    process = try place.start(command + ["--ctrl", "type=unixio,path=\(socket)"])
    LineSocket.wait(for: socket) { [process] in process.isRunning }
  }

  deinit { if !hasEnded { kill() } }

  var isRunning: Bool { process.isRunning }
  var identifier: pid_t { process.identifier }
  var log: String { process.text }

  /// The exit status; minus a signal's number.
  func wait() -> Int32 {
    hasEnded = true
    return process.wait()
  }

  @discardableResult
  func kill() -> Int32 {
    hasEnded = true
    return process.killWithChildren()
  }

  @discardableResult
  func end() -> Int32 {
    process.signal(SIGTERM)
    return wait()
  }

  /// Waits until the log says `text`.
  func waitUntilLogged(_ text: String) throws {
    for _ in 0..<10_000 {
      if log.contains(text) { return }
      try TestFailure.unless(isRunning, log)
      usleep(2000)
    }
    throw TestFailure("not logged: \(text)\n\(log)")
  }
}
