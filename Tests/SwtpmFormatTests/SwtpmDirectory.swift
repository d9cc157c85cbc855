import Foundation
import TestSupport
import Testing

/// A folder in which Debian's swtpm works, removed with it.
final class SwtpmDirectory {
  let path: String

  init() throws {
    path = NSTemporaryDirectory() + "swtpm-\(UUID().uuidString.prefix(13).lowercased())"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  func file(_ name: String) -> String { "\(path)/\(name)" }
  func read(_ name: String = "tpm2-00.permall") throws -> [UInt8] { try File.bytes(file(name)) }
  func write(_ bytes: [UInt8], _ name: String = "tpm2-00.permall") throws { try File.write(bytes, to: file(name)) }

  /// Starts swtpm on the folder's state, powers the TPM on and has it end. True where INIT succeeded.
  func start(_ arguments: [String] = []) throws -> Bool {
    let control = file("ctrl")
    let command = ["swtpm", "socket", "--tpm2", "--tpmstate", "dir=\(path)", "--ctrl", "type=unixio,path=\(control)"]
    let process = try Child(
      command + ["--server", "type=unixio,path=\(file("data"))"] + arguments, in: path, merged: true,
      output: file("log"))
    defer {
      process.signal(SIGTERM)
      _ = process.wait()
    }
    while process.isRunning, (try? Socket(path: control)) == nil { usleep(3000) }
    guard let client = try? Socket(path: control) else { throw TestFailure(process.text) }
    return client.ask([0, 0, 0, 2, 0, 0, 0, 0]) == [0, 0, 0, 0]
  }
}
