import Foundation
import TestSupport
import Testing

/// Real clients over both transports: tpm2-tools and swtpm_ioctl.
@Suite struct ClientTests {
  static let secret = "the secret of NV"

  /// A secret in an NV index and a persistent key.
  static func store(_ server: TestServer) throws {
    try server.place.write(Array(secret.utf8), "secret")
    let define = try server.tpm2("tpm2_nvdefine", "0x1500020", "-C", "o", "-s", "16", "-a", "ownerread|ownerwrite")
    try #require(define.status == 0, "\(define.text)")
    let write = try server.tpm2("tpm2_nvwrite", "0x1500020", "-C", "o", "-i", "secret")
    try #require(write.status == 0, "\(write.text)")
  }

  static func readSecret(_ server: TestServer) throws -> String {
    try server.tpm2("tpm2_nvread", "0x1500020", "-C", "o", "-s", "16").text
  }

  @Test(arguments: TestServer.Transport.allCases) func secretAndPersistentKey(transport: TestServer.Transport) throws {
    let place = try Place()
    var server = try TestServer(place, over: transport)
    try Self.store(server)
    let primary = try server.tpm2("tpm2_createprimary", "-C", "o", "-G", "ecc", "-c", "primary.ctx")
    #expect(primary.status == 0, "\(primary.text)")
    let evict = try server.tpm2("tpm2_evictcontrol", "-C", "o", "-c", "primary.ctx", "0x81000001")
    #expect(evict.status == 0, "\(evict.text)")
    let identity = try server.tpm2("tpm2_readpublic", "-c", "0x81000001")
    #expect(identity.status == 0)
    #expect(server.kill() == -SIGKILL)
    // At rest the secret is not in the image.
    #expect(try Data(place.bytes()).range(of: Data(Self.secret.utf8)) == nil)

    server = try TestServer(place, over: transport)
    #expect(try Self.readSecret(server) == Self.secret)
    #expect(try server.tpm2("tpm2_readpublic", "-c", "0x81000001").text == identity.text)
    // The key is of use: something is sealed under it.
    let sealed = try server.tpm2("tpm2_create", "-C", "0x81000001", "-i", "secret", "-u", "s.pub", "-r", "s.priv")
    #expect(sealed.status == 0, "\(sealed.text)")
    #expect(server.end() == 0)

    server = try TestServer(place, over: transport)
    let load = try server.tpm2("tpm2_load", "-C", "0x81000001", "-u", "s.pub", "-r", "s.priv", "-c", "s.ctx")
    #expect(load.status == 0, "\(load.text)")
    #expect(try server.tpm2("tpm2_unseal", "-c", "s.ctx").text == Self.secret)
    #expect(server.end() == 0)
  }

  @Test(arguments: TestServer.Transport.allCases) func swtpmIoctl(transport: TestServer.Transport) throws {
    let server = try TestServer(Place(), [], over: transport)
    let capabilities = try server.control("-c")
    #expect(capabilities.status == 0 && capabilities.text.contains("ptm capability is"), "\(capabilities.text)")
    // Off: there is no bit to ask for, and commands fail.
    #expect(try server.control("-e").status != 0)
    #expect(try TPMCommand.code(server.connect(.data).ask(TPMCommand.getRandom)) == 0x101)
    #expect(try server.control("-i").status == 0)
    let established = try server.control("-e")
    #expect(established.status == 0 && established.text.contains("tpmEstablished is 0"), "\(established.text)")
    #expect(try server.tpm2("tpm2_startup", "-c").status == 0)
    #expect(try server.tpm2("tpm2_getrandom", "--hex", "8").text.count == 16)
    #expect(try server.control("-v").status == 0)
    #expect(try server.control("-s").status == 0)
    #expect(server.wait() == 0)
    #expect(try server.place.wasClosedCleanly())
  }
}
