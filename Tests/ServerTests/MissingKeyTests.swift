import Foundation
import TestSupport
import Testing

/// A key that isn't there, or not the right one, when the server starts.
@Suite struct MissingKeyTests {
  static let waits = ["--fail-on-encrypted-drive=no"]

  /// An image in which a TPM has a secret, closed; the key is gone from the keyring.
  static func seeded() throws -> Place {
    let place = try Place()
    let server = try TestServer(place)
    try ClientTests.store(server)
    try #require(server.end() == 0)
    place.key.remove()
    return place
  }

  @Test(arguments: [[], ["--fail-on-encrypted-drive"], ["--fail-on-encrypted-drive=yes"]])
  func refused(option: [String]) throws {
    let place = try Self.seeded()
    let (before, names) = (try place.bytes(), place.names)
    for flags in [[], TestServer.startsByItself] {
      let outcome = try place.runServer(option + flags)
      #expect(outcome.status == 3)
      #expect(outcome.text.contains("key \"\(place.key.name)\" is missing"), "\(outcome.text)")
      #expect(try place.bytes() == before)
      #expect(place.names == names, "nothing is left")
    }
  }

  /// A server that refused INIT for want of a key takes the key that has come when INIT comes again; its end is then
  /// that of any other.
  @Test(arguments: TestServer.Transport.allCases) func refusedAndAskedAgain(transport: TestServer.Transport) throws {
    let place = try Self.seeded()
    let server = try TestServer(place, [], over: transport)
    #expect(server.log.contains("key \"\(place.key.name)\" is missing"), "\(server.log)")
    // What QEMU calls "key could not be found", and "decryption error".
    let refused = try server.control("-i")
    #expect(refused.status != 0 && refused.text.contains("0xd"), "\(refused.text)")
    place.key.loadWrong()
    let wrong = try server.control("-i")
    #expect(wrong.status != 0 && wrong.text.contains("0x21"), "\(wrong.text)")
    #expect(try server.control("-c").status == 0)
    place.key.load()
    #expect(try server.control("-i").status == 0)
    #expect(try server.tpm2("tpm2_startup", "-c").status == 0)
    #expect(try ClientTests.readSecret(server) == ClientTests.secret)
    #expect(server.end() == 0)
  }

  /// SIGUSR1 says that a key may be there: it is looked for at once. That nothing has changed is recorded as a count,
  /// in the end or when something has.
  @Test func askedToLook() throws {
    let place = try Self.seeded()
    let audit = place.path("audit-of-this-test")
    let server = try TestServer(place, Self.waits + ["--audit", audit])
    let held = try server.startControl("-i")
    _ = try server.control("-c")
    server.signal(SIGUSR1)
    try server.waitUntilLogged("looking for keys, as SIGUSR1 asks")
    // Longer than between two trials.
    usleep(400_000)
    #expect(held.isRunning)
    place.key.load()
    server.signal(SIGUSR1)
    #expect(held.wait() == 0, "\(held.text)")
    #expect(server.end() == 0)
    let records = try String(contentsOfFile: audit, encoding: .utf8)
    #expect(records.components(separatedBy: "\"event\":\"missing\"").count == 2, "\(records)")
    #expect(records.contains("\"event\":\"repeated\""), "\(records)")
  }

  enum Flood: CaseIterable, Sendable { case initialize, signal }

  /// Each asks for the keys. They are looked for now and then, and what comes of it is recorded once and counted; the
  /// last one is not lost.
  @Test(arguments: Flood.allCases, [true, false]) func twoHundredInHalfASecond(_ flood: Flood, isWrong: Bool) throws {
    let place = try Self.seeded()
    if isWrong { place.key.loadWrong() }
    let audit = place.path("audit-of-this-test")
    let server = try TestServer(place, (flood == .signal ? Self.waits : []) + ["--audit", audit])
    for _ in 0..<200 {
      switch flood {
      case .signal: server.signal(SIGUSR1)
      // CMD_INIT from a client that doesn't wait for the answer.
      case .initialize: try server.connect(.control).send([0, 0, 0, 2, 0, 0, 0, 0])
      }
      usleep(2500)
    }
    place.key.load()
    #expect(try server.control("-i").status == 0, "\(server.log)")
    #expect(server.end() == 0)
    let records = try String(contentsOfFile: audit, encoding: .utf8).split(separator: "\n")
    let counts = Dictionary(
      grouping: records.compactMap { line in
        line.firstRange(of: "\"event\":\"").map { line[$0.upperBound...].prefix { $0 != "\"" } }
      }, by: { $0 }
    ).mapValues(\.count)
    #expect(counts[isWrong ? "wrong" : "missing"] == 1 && counts["unwrapped"] == 1, "\(records)")
    #expect(records.count <= 10, "\(records)")
  }

  @Test(arguments: TestServer.Transport.allCases) func initWaits(transport: TestServer.Transport) throws {
    let place = try Self.seeded()
    let before = try place.bytes()
    let server = try TestServer(place, Self.waits, over: transport)
    #expect(server.log.contains(place.key.name), "\(server.log)")
    _ = try server.connect(.data)
    let waiting = try server.startControl("-i")
    // Another client is let in only when the first is held, so its answer comes after the INIT.
    let capabilities = try server.control("-c")
    #expect(capabilities.status == 0 && capabilities.text.contains("ptm capability is"), "\(capabilities.text)")
    #expect(waiting.isRunning)
    #expect(try place.bytes() == before)
    place.key.load()
    #expect(waiting.wait() == 0, "\(waiting.text)")
    #expect(try server.tpm2("tpm2_startup", "-c").status == 0)
    #expect(try ClientTests.readSecret(server) == ClientTests.secret)
    #expect(server.end() == 0)
    #expect(try place.wasClosedCleanly())
  }

  @Test func startsByItself() throws {
    let place = try Self.seeded()
    let server = try TestServer(place, Self.waits + TestServer.startsByItself)
    let capabilities = try server.control("-c")
    #expect(capabilities.status == 0, "\(capabilities.text)")
    let client = try server.connect(.data)
    client.send(TPMCommand.getRandom)
    #expect(!client.hasInput(within: 100), "a command waits")
    place.key.load()
    #expect(TPMCommand.code(client.receive()) == 0)
    _ = consume client
    #expect(try ClientTests.readSecret(server) == ClientTests.secret)
    #expect(server.end() == 0)
  }

  /// Who is to hand a key over doesn't: the server can be ended, and nothing was made.
  @Test(arguments: [SIGTERM, SIGINT]) func endsWhileItReadsAKey(signal: Int32) throws {
    let place = try Place()
    try FileManager.default.createDirectory(atPath: place.path("state"), withIntermediateDirectories: true)
    let server = try place.start([
      "sh", "-c",
      "mkfifo never; exec 8<>never; exec vnvram-swtpm socket --tpm2 --tpmstate dir=state --key pwdfd=8 --ctrl type=unixio,path=tpm.ctrl",
    ])
    // It has its child by the time that it reads.
    for _ in 0..<5000 where try Child.children(of: server.identifier).isEmpty { usleep(2000) }
    kill(server.identifier, signal)
    #expect(server.wait() == -signal, "\(server.text)")
    #expect(try FileManager.default.contentsOfDirectory(atPath: place.path("state")) == [])
  }

  /// A server that waits ends when it is asked to, with the image as it was.
  @Test func endsWhileItWaits() throws {
    let place = try Self.seeded()
    let before = try place.bytes()
    #expect(try TestServer(place, Self.waits + TestServer.startsByItself).end() == 0)
    let server = try TestServer(place, Self.waits)
    #expect(try server.control("-s").status == 0)
    #expect(server.wait() == 0)
    #expect(try place.bytes() == before)
  }

  @Test func noticedWithinAboutASecond() throws {
    let place = try Self.seeded()
    let server = try TestServer(place, Self.waits)
    usleep(4_000_000)
    let first = try server.startControl("-i")
    _ = try server.control("-c")
    place.key.load()
    let began = Date()
    #expect(first.wait() == 0, "\(first.text)")
    let seconds = -began.timeIntervalSinceNow
    print("a key that came was used after \(Int(seconds * 1000)) ms")
    // The longest interval is a second; a machine that is busy may take its time.
    #expect(seconds < 10)
    #expect(server.end() == 0)
  }

  @Test(arguments: [[], TestServer.startsByItself]) func timesOut(flags: [String]) throws {
    let place = try Self.seeded()
    let before = try place.bytes()
    let outcome = try place.runServer(Self.waits + ["--key-timeout", "1"] + flags)
    #expect(outcome.status == 13, "\(outcome.text)")
    #expect(outcome.text.contains(place.key.name), "\(outcome.text)")
    #expect(try place.bytes() == before)
  }

  // MARK: Keys that are there

  @Test func wrongKey() throws {
    let place = try Self.seeded()
    let before = try place.bytes()
    place.key.loadWrong()
    let outcome = try place.runServer()
    #expect(outcome.status == 4)
    #expect(outcome.text.contains("\"\(place.key.name)\" is wrong"), "\(outcome.text)")

    let server = try TestServer(place, Self.waits + TestServer.startsByItself)
    #expect(server.log.contains("\(place.key.name) (wrong)"), "\(server.log)")
    place.key.loadWrong()
    let client = try server.connect(.data)
    client.send(TPMCommand.getRandom)
    #expect(!client.hasInput(within: 200))
    #expect(server.isRunning)
    #expect(try place.bytes() == before)
    // The same key, with other content.
    place.key.load()
    #expect(TPMCommand.code(client.receive()) == 0)
    _ = consume client
    #expect(try ClientTests.readSecret(server) == ClientTests.secret)
    #expect(server.end() == 0)
  }

  enum Unusable: CaseIterable {
    case revoked
    case expired
  }

  @Test(arguments: Unusable.allCases) func unusableKey(how: Unusable) throws {
    let place = try Self.seeded()
    let before = try place.bytes()
    place.key.load()
    switch how {
    case .revoked: place.key.revoke()
    case .expired: place.key.expire()
    }
    let outcome = try place.runServer()
    #expect(outcome.status == 5, "\(outcome.text)")
    #expect(outcome.text.contains(place.key.name), "\(outcome.text)")
    let server = try TestServer(place, Self.waits + TestServer.startsByItself)
    #expect(server.log.contains("waits for a key: "), "\(server.log)")
    #expect(try place.bytes() == before)
    place.key.load()
    #expect(try ClientTests.readSecret(server) == ClientTests.secret)
    #expect(server.end() == 0)
  }
}
