import Foundation
import Keyring
import Primitives
import Testing

@testable import VNVRAM

/// The key that opened a store goes, in each way in which a key can, and comes back.
struct LostKeyTests {
  private let place: TestPlace
  private let events = Recorder<NVRAMEvent>()
  private static let entries: [String: UInt64] = ["state": 4096]

  init() throws {
    place = try TestPlace()
    try place.makeStore(Self.entries, further: ["b": 2])
  }

  private func nvram(_ change: (inout NVRAMConfiguration) -> Void = { _ in }) throws -> NVRAM {
    let nvram = try place.nvram(Self.entries, change)
    nvram.observe { [events] in events.add($0) }
    return nvram
  }

  enum Loss: CaseIterable {
    case revoked, expired, removed, invalidated
    /// May be viewed and no more; may not even be viewed.
    case mayNotBeRead, mayNotBeSeen
    /// The key keeps its number.
    case otherContent, otherSize
  }

  private func lose(_ serial: KeySerial, _ loss: Loss) throws {
    switch loss {
    case .revoked: try Keyring.revoke(serial)
    case .expired: try Keyring.setTimeout(serial, seconds: 1)
    case .removed: try Keyring.unlink(serial, from: .user)
    case .invalidated: try Keyring.invalidate(serial)
    case .mayNotBeRead: try Keyring.setPermissions(serial, [.possessor(.view), .user([.view, .setAttributes])])
    case .mayNotBeSeen: try Keyring.setPermissions(serial, [])
    case .otherContent: #expect(try place.bring("a", 9) == serial)
    case .otherSize: #expect(try place.bring("a", 1, count: 31) == serial)
    }
  }

  private func restore(_ serial: KeySerial, _ loss: Loss) throws {
    switch loss {
    case .mayNotBeRead: return try Keyring.setPermissions(serial, .standard)
    // Nobody may change it any more; another takes its place.
    case .mayNotBeSeen: try Keyring.unlink(serial, from: .user)
    default: break
    }
    try place.bring("a", 1)
  }

  @Test(arguments: Loss.allCases) func locksItUntilItIsBack(_ loss: Loss) throws {
    let serial = try place.bring("a", 1)
    let nvram = try nvram()
    defer { try? nvram.close() }
    try nvram.start(failOnEncryptedDrive: true)
    try nvram.replace("state", content(1))
    try lose(serial, loss)
    #expect(eventually { events.states.prefix(2) == ["running", "locked"] })
    #expect(eventually { place.events().contains("locked a") })
    let writer = Running { try nvram.replace("state", content(2)) }
    usleep(30_000)
    #expect(!writer.hasEnded)
    let names = if case .locked(let keys) = nvram.state { keys.names } else { [place.name("a")] }
    #expect(names.contains(place.name("a")))
    let isOther = loss == .otherContent || loss == .otherSize
    #expect(!isOther || eventually { place.events().contains("wrong a") }, "what came in its place was not tried")
    // What was closed is whole, and its key opens it: nothing of it is held open.
    try restore(serial, loss)
    try writer.wait()
    #expect(nvram.state == .running)
    #expect(try nvram.readContent("state") == content(2))
    #expect(eventually { events.states.suffix(2) == ["verifying", "running"] })
    // A key that is added is there for a moment before its permissions are set, and may be tried in vain then.
    let tries = events.states.dropFirst(2).dropLast(2).filter { $0 == "verifying" }.count
    #expect(isOther || tries <= (loss == .mayNotBeRead ? 0 : 2), "\(events.states)")
  }

  /// The thread that guards it can't come to the keyring of the thread that opened the store. That is no loss.
  @Test func aKeyOfOneThreadAlone() throws {
    let name = try #require(KeyName(place.name("a")))
    let opened = Running {
      try Keyring.add(name, payload: TestPlace.secret(1), to: .thread)
      let nvram = try nvram()
      try nvram.start(failOnEncryptedDrive: true)
      usleep(200_000)
      defer { try? nvram.close() }
      return nvram.state == .running
    }
    #expect(try opened.wait())
  }

  /// What reads it again and again says so once, before it does.
  @Test func theRecordSaysThatItIsCompared() throws {
    try place.bring("a", 1)
    let nvram = try nvram()
    try nvram.start(failOnEncryptedDrive: true)
    usleep(100_000)
    try nvram.close()
    #expect(place.events() == ["asked-for a", "found a", "unwrapped a"])
    let text = try String(contentsOfFile: place.auditPath, encoding: .utf8)
    #expect(text.split(separator: "\n").last?.contains("it is read again every 0.005 seconds") == true, "\(text)")
  }

  @Test func underThePolicyKeepItIsNotCompared() throws {
    try place.bring("a", 1)
    let nvram = try nvram { $0.keyLossPolicy = .keep }
    try nvram.start(failOnEncryptedDrive: true)
    try place.bring("a", 9)
    usleep(100_000)
    #expect(nvram.state == .running)
    try nvram.close()
    #expect(try !String(contentsOfFile: place.auditPath, encoding: .utf8).contains("read again"))
  }

  // MARK: Wrong keys

  /// A wrong key that stays the same is read to be compared, which is recorded once and counted, and tried once.
  @Test func aWrongKeyThatWaitsIsComparedOnRecord() throws {
    try place.bring("a", 9)
    let nvram = try nvram()
    try nvram.start(failOnEncryptedDrive: false)
    let first = ["asked-for a", "found a", "wrong a", "asked-for b", "missing b"]
    #expect(eventually { place.events() == first + ["compared a"] })
    usleep(100_000)
    #expect(place.events() == first + ["compared a"])
    try nvram.close()
    #expect(place.events() == first + ["compared a", "repeated a"])
  }

  /// One of the wrong size is told by that, and its bytes are never read again.
  @Test func aKeyOfTheWrongSizeIsNotReadAgain() throws {
    try place.bring("a", 1, count: 31)
    let nvram = try nvram()
    defer { try? nvram.close() }
    try nvram.start(failOnEncryptedDrive: false)
    usleep(100_000)
    #expect(place.events() == ["asked-for a", "found a", "wrong a", "asked-for b", "missing b"])
    try place.bring("a", 1)
    #expect(eventually { nvram.state == .running })
  }

  /// Where the read can't be recorded it isn't done, so that a change can't be seen before it can.
  @Test func withoutARecordAWrongKeyIsNotCompared() throws {
    try place.bring("a", 9)
    let nvram = try nvram { $0.keyCheckInterval = .milliseconds(300) }
    defer { try? nvram.close() }
    try nvram.start(failOnEncryptedDrive: false)
    _ = unsafe unlink(place.auditPath)
    _ = unsafe mkdir(place.auditPath, 0o700)
    try place.bring("a", 1)
    usleep(700_000)
    #expect(events.states == ["key-pending"])
    _ = unsafe rmdir(place.auditPath)
    #expect(eventually { nvram.state == .running })
    #expect(place.events().contains("compared a"))
  }

  // MARK: Pokes without limit

  private static let hour = Duration.seconds(3600)

  /// One at once, and one when the time is over; the rest are one with these.
  @Test func twoHundredPokesAreFewTrials() throws {
    let nvram = try nvram { $0.shortestKeyTrialInterval = Self.hour }
    try nvram.start(failOnEncryptedDrive: false)
    for _ in 0..<200 {
      nvram.poke()
      usleep(1000)
    }
    #expect(eventually { events.states == ["key-pending", "verifying", "key-pending"] })
    try nvram.close()
    let missing = ["asked-for a", "missing a", "asked-for b", "missing b"]
    #expect(place.events() == missing + ["repeated a", "repeated b"])
  }

  @Test(arguments: [true, false]) func pokesWithTheSameOutcomeAreRecordedOnce(isThere: Bool) throws {
    if isThere { try place.bring("a", 9) }
    let nvram = try nvram { $0.keyCheckInterval = Self.hour }
    try nvram.start(failOnEncryptedDrive: false)
    for _ in 0..<200 {
      nvram.poke()
      usleep(1000)
    }
    #expect(eventually { events.states.filter { $0 == "verifying" }.count > 2 })
    try nvram.close()
    let a = isThere ? ["asked-for a", "found a", "wrong a"] : ["asked-for a", "missing a"]
    let later = isThere ? ["compared a", "repeated b", "repeated a"] : ["repeated a", "repeated b"]
    #expect(place.events() == a + ["asked-for b", "missing b"] + later)
    let text = try String(contentsOfFile: place.auditPath, encoding: .utf8)
    #expect(text.contains("\"count\":"), "\(text)")
  }

  /// What happens between two runs ends the first.
  @Test func whatChangesIsRecorded() throws {
    let nvram = try nvram()
    try nvram.start(failOnEncryptedDrive: false)
    for seed in [8, 9] as [UInt8] {
      try place.bring("a", seed)
      #expect(
        eventually { nvram.state == .keyPending(WantedKeys(missing: [place.name("b")], wrong: [place.name("a")])) })
      let name = try #require(KeyName(place.name("a")))
      try Keyring.unlink(try Keyring.find(name).serial, from: .user)
      #expect(eventually { nvram.state == .keyPending(WantedKeys(missing: [place.name("a"), place.name("b")])) })
    }
    try nvram.close()
    let ofA = place.events().filter { $0.hasSuffix(" a") && !$0.hasPrefix("asked") }.filter { $0 != "compared a" }
    #expect(
      ofA.filter { $0 != "repeated a" } == [
        "missing a", "found a", "wrong a", "missing a", "found a", "wrong a", "missing a",
      ])
  }

  @Test func noPokeIsLost() throws {
    try place.bring("a", 1)
    let nvram = try nvram { $0.shortestKeyTrialInterval = .milliseconds(300) }
    defer { try? nvram.close() }
    try nvram.start(failOnEncryptedDrive: true)
    for round in 1...3 {
      try nvram.lock()
      // Too early, where the last trial was just now.
      nvram.poke()
      #expect(eventually { events.states.filter { $0 == "running" }.count == round + 1 && nvram.state == .running })
    }
  }

  /// A key that changes from wrong to wrong all the time is tried no more often either.
  @Test func aKeyThatChangesAllTheTimeIsTriedNowAndThen() throws {
    let nvram = try nvram { $0.shortestKeyTrialInterval = Self.hour }
    defer { try? nvram.close() }
    try nvram.start(failOnEncryptedDrive: false)
    for seed in 3..<40 as Range<UInt8> {
      try place.bring("a", seed)
      usleep(5000)
    }
    #expect(eventually { events.states == ["key-pending", "verifying", "key-pending"] })
    #expect(place.events().filter { $0 == "wrong a" }.count == 1)
  }
}
