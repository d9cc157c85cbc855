import Foundation
import TestSupport
import Testing

/// Real clients: swtpm_ioctl and tpm2-tools, over TCP and over Unix sockets.
@Suite(.serialized) struct ToolTests {
  @Test(arguments: TestServer.Transport.allCases) func swtpmIoctl(transport: TestServer.Transport) throws {
    let server = try TestServer(TestDirectory(), over: transport)
    let capabilities = try server.control("-c")
    #expect(capabilities.output.contains("0x1ffff"))
    // Not powered on: there is no bit to ask for.
    #expect(try server.control("-e").status != 0)
    #expect(try server.control("-i").status == 0)
    let established = try server.control("-e")
    #expect(established.status == 0)
    #expect(established.output.contains("tpmEstablished is 0"))
    #expect(try server.control("-l", "3").status == 0)
    #expect(try server.control("-r", "3").status == 0)
    #expect(try server.control("-v").status == 0)
    #expect(try server.control("-b", "0").status == 0)
    #expect(try server.control("-C").status == 0)
    #expect(try server.control("-g").status == 0)
    let info = try server.control("--info", "3")
    #expect(info.output.contains("TPMSpecification"))
    #expect(try server.control("--stop").status == 0)
    #expect(try server.control("-e").status != 0)
    #expect(try server.control("-i").status == 0)
    #expect(try server.control("-s").status == 0)
    #expect(server.wait() == 0)
    let state = try #require(try? FileManager.default.contentsOfDirectory(atPath: server.statePath))
    // swtpm_ioctl's INIT deletes the volatile state that -v had stored.
    #expect(state.sorted() == [".lock", "permall"])
  }

  /// What was acknowledged outlives a SIGKILL right after the answer.
  @Test(arguments: TestServer.Transport.allCases) func stateOutlivesTheServer(transport: TestServer.Transport) throws {
    let directory = try TestDirectory()
    var server = try TestServer(directory, ["--flags", "not-need-init,startup-clear"], over: transport)
    #expect(try server.tpm2("tpm2_getrandom", "--hex", "8").output.count == 16)
    try "the secret of NV".write(toFile: "\(server.workPath)/secret", atomically: true, encoding: .utf8)
    let define = try server.tpm2("tpm2_nvdefine", "0x1500020", "-C", "o", "-s", "16", "-a", "ownerread|ownerwrite")
    #expect(define.status == 0, "\(define.output)")
    #expect(try server.tpm2("tpm2_nvwrite", "0x1500020", "-C", "o", "-i", "secret").status == 0)
    let primary = try server.tpm2("tpm2_createprimary", "-C", "o", "-G", "ecc", "-c", "primary.ctx")
    #expect(primary.status == 0, "\(primary.output)")
    let evict = try server.tpm2("tpm2_evictcontrol", "-C", "o", "-c", "primary.ctx", "0x81000001")
    #expect(evict.status == 0, "\(evict.output)")
    let before = try server.tpm2("tpm2_readpublic", "-c", "0x81000001")
    #expect(before.status == 0)
    server.kill()

    server = try TestServer(directory, ["--flags", "startup-clear"], over: transport)
    let read = try server.tpm2("tpm2_nvread", "0x1500020", "-C", "o", "-s", "16")
    #expect(read.output == "the secret of NV")
    let after = try server.tpm2("tpm2_readpublic", "-c", "0x81000001")
    #expect(after.output == before.output)
    let child = try server.tpm2("tpm2_create", "-C", "0x81000001", "-u", "k.pub", "-r", "k.priv")
    #expect(child.status == 0, "\(child.output)")
    let loaded = try server.tpm2("tpm2_load", "-C", "0x81000001", "-u", "k.pub", "-r", "k.priv", "-c", "k.ctx")
    #expect(loaded.status == 0, "\(loaded.output)")
    #expect(try server.control("-s").status == 0)
    #expect(server.wait() == 0)
    // libtpms never fell back to a file of its own.
    #expect(!FileManager.default.fileExists(atPath: "\(server.workPath)/NVChip"))
  }

  /// STORE_VOLATILE, and PCRs that are as they were; INIT that deletes it, and PCRs that are not.
  @Test func volatileState() throws {
    let directory = try TestDirectory()
    var server = try TestServer(directory, ["--flags", "startup-clear"])
    let extend = try server.tpm2("tpm2_pcrextend", "16:sha256=" + String(repeating: "5a", count: 32))
    #expect(extend.status == 0, "\(extend.output)")
    let extended = try server.tpm2("tpm2_pcrread", "sha256:16").output
    #expect(!extended.contains("0x" + String(repeating: "0", count: 64)))
    #expect(try server.control("-v").status == 0)
    server.kill()

    server = try TestServer(directory)
    #expect(try Socket(server, .control).ask("00000002 00000000") == "00000000")
    #expect(try server.tpm2("tpm2_pcrread", "sha256:16").output == extended)
    #expect(try Socket(server, .control).ask("00000002 00000001") == "00000000")
    #expect(directory.read("state/volatilestate") == nil)
  }

  @Test func startupStateAfterShutdownState() throws {
    let directory = try TestDirectory()
    var server = try TestServer(directory, ["--flags", "startup-clear"])
    #expect(try server.tpm2("tpm2_pcrextend", "16:sha256=" + String(repeating: "a5", count: 32)).status == 0)
    #expect(try server.tpm2("tpm2_shutdown").status == 0)
    server.kill()
    server = try TestServer(directory, ["--flags", "startup-state"])
    #expect(try server.tpm2("tpm2_getrandom", "4", "--hex").status == 0)
    #expect(!server.log.contains("TPM2_Startup answered"))
  }
}
