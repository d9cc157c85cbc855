import Foundation
import TestSupport
import Testing

/// A key that goes while the TPM runs.
@Suite struct KeyLossTests {
  static let failure: UInt32 = 0x101

  /// Under the policy lock the server notices by itself; what stores something fails from then on, what was
  /// acknowledged before is there after the next start.
  @Test(arguments: ["revoked", "unlinked"]) func lock(how: String) throws {
    let place = try Place()
    var server = try TestServer(place)
    var client: Socket? = try server.connect(.data)
    try client?.run(TPMCommand.defineIndex)
    try client?.run(TPMCommand.write(1))
    if how == "revoked" { place.key.revoke() } else { place.key.remove() }
    try server.waitUntilLogged("is locked and waits for a key: \(place.key.name)")
    #expect(server.isRunning)
    #expect(try TPMCommand.code(#require(client).ask(TPMCommand.write(2))) == Self.failure)
    #expect(server.log.contains("failure mode until it is started anew"), "\(server.log)")
    // And goes on failing: nothing that isn't durable is claimed.
    #expect(try TPMCommand.code(#require(client).ask(TPMCommand.write(3))) == Self.failure)
    client = nil
    // Started anew with the key there again: by INIT, and by a new server.
    place.key.load()
    try server.waitUntilLogged("the store is open")
    #expect(try server.control("-i").status == 0)
    #expect(try server.tpm2("tpm2_startup", "-c").status == 0)
    #expect(try server.connect(.data).index() == [UInt8](repeating: 1, count: TPMCommand.indexSize))
    try server.connect(.data).run(TPMCommand.write(4))
    #expect(server.kill() == -SIGKILL)
    server = try TestServer(place)
    #expect(try server.connect(.data).index() == [UInt8](repeating: 4, count: TPMCommand.indexSize))
    #expect(server.end() == 0)
    #expect(try place.run(["vnvram", "check", place.image]).status == 0)
  }

  /// What stores nothing goes on while the store is locked, and all of it goes on when the key is there again before
  /// anything had to be stored.
  @Test func lockedAndBack() throws {
    let place = try Place()
    let server = try TestServer(place)
    let client = try server.connect(.data)
    try client.run(TPMCommand.defineIndex)
    try client.run(TPMCommand.write(1))
    place.key.revoke()
    try server.waitUntilLogged("is locked and waits for a key: \(place.key.name)")
    try client.run(TPMCommand.getRandom)
    try client.run(TPMCommand.pcrRead)
    place.key.load()
    try server.waitUntilLogged("the store is open")
    try client.run(TPMCommand.write(2))
    #expect(try client.index() == [UInt8](repeating: 2, count: TPMCommand.indexSize))
    #expect(server.end() == 0)
  }

  @Test func keep() throws {
    let place = try Place()
    var server = try TestServer(place, TestServer.startsByItself + ["--on-key-loss", "keep"])
    let client = try server.connect(.data)
    try client.run(TPMCommand.defineIndex)
    place.key.revoke()
    // Longer than the interval at which the other policy looks.
    usleep(1_200_000)
    try client.run(TPMCommand.write(5))
    #expect(server.kill() == -SIGKILL)
    // The next start needs it.
    #expect(try place.runServer().status == 5)
    place.key.load()
    server = try TestServer(place)
    #expect(try server.connect(.data).index() == [UInt8](repeating: 5, count: TPMCommand.indexSize))
    #expect(server.end() == 0)
  }
}
