import Foundation
import TestSupport

/// A TPM that stands in for the host's: Debian's swtpm in a process of its own. It has one client at a time, so whoever
/// looks at it with tpm2-tools has let go of it first.
final class HostTPM {
  let folder: String
  private let server: Child

  init() throws {
    folder = NSTemporaryDirectory() + "vnvram-host-\(UUID().uuidString.prefix(8).lowercased())"
    try FileManager.default.createDirectory(atPath: folder + "/state", withIntermediateDirectories: true)
    server = try Child(
      [
        "swtpm", "socket", "--tpm2", "--tpmstate", "dir=\(folder)/state", "--server",
        "type=unixio,path=\(folder)/tpm", "--ctrl", "type=unixio,path=\(folder)/tpm.ctrl", "--flags",
        "not-need-init,startup-clear",
      ], in: folder, merged: true)
    for _ in 0..<1000 where !File.exists(folder + "/tpm.ctrl") || !File.exists(folder + "/tpm") { usleep(10_000) }
  }

  deinit {
    server.signal(SIGTERM)
    _ = server.wait()
    try? FileManager.default.removeItem(atPath: folder)
  }

  var tcti: String { "swtpm:path=\(folder)/tpm" }
  func path(_ name: String) -> String { "\(folder)/\(name)" }

  /// Runs one of tpm2-tools; its output where it went well.
  @discardableResult
  func tpm2(_ arguments: String...) throws -> [UInt8] {
    let outcome = try Child(
      arguments, in: folder, environment: ["TPM2TOOLS_TCTI": tcti]
    ).outcome()
    try TestFailure.unless(outcome.status == 0, "\(arguments): \(outcome.errorText)")
    return outcome.output
  }

  func define(_ index: String = "0x01800100", attributes: String = "authread|authwrite|no_da|nt=counter") throws {
    try tpm2("tpm2_nvdefine", index, "-C", "o", "-s", "8", "-a", attributes)
  }

  /// The counter as tpm2-tools read it.
  func value(_ index: String = "0x01800100") throws -> UInt64 {
    try tpm2("tpm2_nvread", index).reduce(0) { $0 << 8 | UInt64($1) }
  }
}
