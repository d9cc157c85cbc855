import Foundation
import TestSupport
import Testing

@testable import vnvram_swtpm

/// Which server is taken for swtpm_setup's, whose TPM no virtual machine has yet: its marker isn't used then.
@Suite struct SetupServerTests {
  private static func isSetup(_ pid: [String], _ more: [String] = [], flags: String = "not-need-init") throws -> Bool? {
    var sockets: [[Int32]] = []
    for _ in 0..<2 {
      var pair: [Int32] = [-1, -1]
      let isMade = unsafe socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &pair) == 0
      try #require(isMade)
      sockets.append(pair)
    }
    defer { for descriptor in sockets.joined() { close(descriptor) } }
    let arguments =
      ["socket", "--tpm2", "--tpmstate", "backend-uri=file:///tmp/none", "--flags", flags, "--server"]
      + ["type=tcp,fd=\(sockets[0][0])", "--ctrl"]
      + more.map { $0.replacingOccurrences(of: "CONTROL", with: "type=unixio,clientfd=\(sockets[1][0])") }
    guard case .serve(let options) = try CommandLineOptions.parse(arguments + pid) else { return nil }
    return options.isSetup
  }

  @Test func onlyAsSwtpmSetupStartsIt() throws {
    let pid = ["--pid", "file=/tmp/none.pid"]
    #expect(try Self.isSetup(pid, ["CONTROL"]) == true)
    #expect(try Self.isSetup([], ["CONTROL"]) == false, "a manager's, that hands over both channels")
    for more in [
      ["CONTROL,terminate"], ["CONTROL", "--terminate"], ["CONTROL", "--migration", "release-lock-outgoing"],
    ] {
      #expect(try Self.isSetup(pid, more) == false, "\(more)")
    }
  }
}
