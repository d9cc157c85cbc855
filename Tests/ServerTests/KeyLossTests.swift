import Foundation
import TestSupport
import Testing

/// A key that goes while the TPM runs.
@Suite struct KeyLossTests {
  static let unavailable: UInt32 = 0x923

  /// Under the policy lock the server notices by itself; what may store something is refused from then on, and nothing
  /// of it happens. When the key is there again the same TPM goes on: no INIT, no restart.
  enum Loss: CaseIterable, Sendable {
    case revoked, unlinked, withdrawn, expired, invalidated, forbidden, notReadable, otherContent, otherSize
  }

  /// Runs `body` while the key is away.
  static func without(_ key: KernelKey, _ loss: Loss, _ body: () throws -> Void) throws {
    switch loss {
    case .revoked: key.revoke()
    case .unlinked: key.remove()
    case .withdrawn: key.withdraw()
    case .expired: key.expire()
    case .invalidated: key.invalidate()
    case .forbidden: return try key.forbidding(body)
    case .notReadable: return try key.forbiddingToRead(body)
    case .otherContent: key.loadWrong()
    case .otherSize: key.loadShort()
    }
    try body()
  }

  @Test(arguments: Loss.allCases) func lock(how: Loss) throws {
    let place = try Place()
    var server = try TestServer(place)
    let client = try server.connect(.data)
    try client.run(TPMCommand.defineCounter)
    try client.run(TPMCommand.increment)
    try client.run(TPMCommand.defineIndex)
    try client.run(TPMCommand.write(1))
    let counter = try client.counter()
    let pcr = try client.run(TPMCommand.pcrRead)
    try Self.without(place.key, how) {
      try server.waitUntilLogged("is locked and waits for a key: \(place.key.name)")
      #expect(server.isRunning)
      for command in [TPMCommand.write(2), TPMCommand.increment, TPMCommand.readIndex] {
        #expect(TPMCommand.code(client.ask(command)) == Self.unavailable)
      }
      try client.run(TPMCommand.getRandom)
      #expect(!server.log.contains("failure mode"), "\(server.log)")
    }
    if how != .notReadable { place.key.load() }
    try server.waitUntilLogged("the store is open")
    #expect(try client.counter() == counter)
    #expect(try client.index() == [UInt8](repeating: 1, count: TPMCommand.indexSize))
    #expect(try client.run(TPMCommand.pcrRead) == pcr)
    try client.run(TPMCommand.write(4))
    #expect(server.kill() == -SIGKILL)
    server = try TestServer(place)
    #expect(try server.connect(.data).index() == [UInt8](repeating: 4, count: TPMCommand.indexSize))
    #expect(server.end() == 0)
    #expect(try place.run(["vnvram", "check", place.image]).status == 0)
  }

  /// The key goes at random moments between and within commands that store, and comes back: what was acknowledged is
  /// there, of what was refused at most the one that was under way, and libtpms is never in failure mode.
  @Test func lockedUnderLoad() throws {
    let place = try Place()
    let server = try TestServer(place)
    let client = try server.connect(.data)
    try client.run(TPMCommand.defineCounter)
    try client.run(TPMCommand.increment)
    let start = try client.counter()
    var acknowledged: UInt64 = 0
    let rounds: UInt64 = 3
    for round in 1...rounds {
      let delay = UInt32.random(in: 0...20_000)
      let owner = Thread { [key = place.key] in
        usleep(delay)
        key.revoke()
        usleep(1_300_000)
        key.load()
      }
      owner.start()
      var wasRefused = false
      for _ in 0..<100_000 {
        let code = TPMCommand.code(client.ask(TPMCommand.increment))
        try TestFailure.unless(code == 0 || code == Self.unavailable, "\(String(code, radix: 16)): \(server.log)")
        if code == 0 { acknowledged += 1 } else { usleep(2000) }
        if code == 0, wasRefused { break }
        wasRefused = wasRefused || code != 0
      }
      #expect(wasRefused, "round \(round), after \(delay) µs")
      while !owner.isFinished { usleep(1000) }
    }
    let found = try client.counter() - start
    #expect(found >= acknowledged && found <= acknowledged + rounds, "\(found), and \(acknowledged) were acknowledged")
    #expect(server.end() == 0)
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
