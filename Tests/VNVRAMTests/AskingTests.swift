import Audit
import BlockIO
import Foundation
import Keyring
import SecureVolume
import Testing
import TestSupport

@testable import VNVRAM

/// Keys that are in no keyring and come by an upcall, through the project's own rule and provider.
@Suite(.enabled(if: RequestKeyRule.isAvailable, "\(RequestKeyRule.unavailable)"))
struct AskingTests {
  private let place: TestPlace
  private let rule: RequestKeyRule
  private let events = Recorder<NVRAMEvent>()

  init() throws {
    place = try TestPlace()
    rule = try RequestKeyRule(place.tag, keys: place.directory + "/keys")
    try place.makeStore(["state": 1000])
  }

  /// Puts the key where the provider finds it.
  private func provide(_ seed: UInt8 = 1) throws {
    let secret = TestPlace.secret(seed)
    try RequestKeyRule.put(secret.span.array, place.name("a"), of: "root", in: place.directory + "/keys")
  }

  private func nvram() throws -> NVRAM {
    let nvram = try place.nvram(["state": 1000]) {
      $0.asksForKeys = true
      $0.shortestAskInterval = .milliseconds(50)
    }
    nvram.observe { [events] in events.add($0) }
    return nvram
  }

  @Test func aKeyComesByAsking() throws {
    try provide()
    let nvram = try nvram()
    defer { try? nvram.close() }
    try nvram.start(failOnEncryptedDrive: true)
    #expect(nvram.state == .running)
    #expect(place.events() == ["asked-for a", "missing a", "asked-for a", "asked-for a", "found a", "unwrapped a"])
    let name = try #require(KeyName(place.name("a")))
    #expect(try Keyring.find(name).scope == .process, "it ends with the process")
  }

  @Test func whereNobodyHasItItIsMissing() throws {
    let nvram = try nvram()
    defer { try? nvram.close() }
    let error = failure { try nvram.start(failOnEncryptedDrive: true) }
    #expect(error?.code == .keyMissing && error?.status == .keyMissing)
    #expect(place.events() == ["asked-for a", "missing a", "asked-for a", "missing a"])
    // No negative key stays behind: one that is loaded now is found, and doesn't end by itself.
    try place.bring("a", 1)
    try nvram.start(failOnEncryptedDrive: true)
    #expect(Keyring.list().first { $0.name.text == place.name("a") }?.timeLeft == nil)
  }

  @Test func pendingItGoesOnByItself() throws {
    let nvram = try nvram()
    defer { try? nvram.close() }
    try nvram.start(failOnEncryptedDrive: false)
    guard case .keyPending(let keys) = nvram.state else {
      Issue.record("\(nvram.state)")
      return
    }
    #expect(keys.missing == [place.name("a")])
    #expect(eventually { nvram.state == .keyPending(WantedKeys(missing: [place.name("a")])) }, "it was asked for")
    try provide()
    #expect(eventually { nvram.state == .running })
  }

  /// Closing doesn't wait for who is asked, nor do requests with a deadline.
  @Test func whoAnswersSlowlyHoldsNobodyUp() throws {
    try provide()
    let script = place.directory + "/slow"
    try Data("#!/bin/sh\nsleep 2\nexec \(RequestKeyRule.provider) --keys \(place.directory)/keys \"$@\"\n".utf8)
      .write(to: URL(fileURLWithPath: script))
    _ = unsafe chmod(script, 0o700)
    rule.remove()
    let slow = try RequestKeyRule(place.tag, keys: "", program: script)
    defer { slow.remove() }
    let clock = ContinuousClock()
    var start = clock.now
    let first = try nvram()
    try first.start(failOnEncryptedDrive: false)
    #expect(failure { try first.replace("state", content(1), deadline: .milliseconds(50)) }?.code == .timedOut)
    if case .keyPending(let keys) = first.state { #expect(keys.asking == [place.name("a")]) }
    try first.close()
    #expect(clock.now - start < .seconds(2))
    start = clock.now
    let second = try nvram()
    defer { try? second.close() }
    try second.start(failOnEncryptedDrive: false)
    #expect(eventually { second.state == .running })
    #expect(clock.now - start >= .milliseconds(1900))
  }

  /// A wrong key that came by asking doesn't hide a right one that is loaded.
  @Test func aWrongKeyIsDropped() throws {
    try provide(9)
    let nvram = try nvram()
    defer { try? nvram.close() }
    try nvram.start(failOnEncryptedDrive: false)
    #expect(eventually { nvram.state == .keyPending(WantedKeys(wrong: [place.name("a")])) })
    #expect(place.events().contains("wrong a"))
    try place.bring("a", 1)
    #expect(eventually { nvram.state == .running })
  }

  @Test func anExpiredKeyIsAskedForAgain() throws {
    try provide()
    let nvram = try nvram()
    defer { try? nvram.close() }
    try nvram.start(failOnEncryptedDrive: true)
    try nvram.replace("state", content(1))
    // This thread's process keyring is the one that has it.
    let name = try #require(KeyName(place.name("a")))
    try Keyring.setTimeout(try Keyring.find(name).serial, seconds: 1)
    #expect(eventually { events.states.contains("locked") })
    #expect(eventually { nvram.state == .running })
    #expect(try nvram.readContent("state") == content(1))
  }

  /// Who revokes a key, or locks the store, wants it gone.
  @Test(arguments: [true, false]) func aKeyThatWasTakenAwayIsAskedForOnlyOnThePoke(isRevoked: Bool) throws {
    try provide()
    let serial = try place.bring("a", 1)
    let nvram = try nvram()
    defer { try? nvram.close() }
    try nvram.start(failOnEncryptedDrive: true)
    if isRevoked { try Keyring.revoke(serial) } else { try nvram.lock() }
    #expect(eventually { nvram.state.name == "locked" })
    // Then it is missing, too, as it is when the kernel has swept it away.
    try? Keyring.unlink(serial, from: .user)
    usleep(300_000)
    #expect(nvram.state.name == "locked")
    nvram.poke()
    #expect(eventually { nvram.state == .running })
  }

  /// The same where it was gone before anything was opened with it.
  @Test func aKeyThatWasRevokedBeforeIsNotAskedFor() throws {
    try provide()
    let serial = try place.bring("a", 1)
    try Keyring.revoke(serial)
    let nvram = try nvram()
    defer { try? nvram.close() }
    try nvram.start(failOnEncryptedDrive: false)
    try Keyring.unlink(serial, from: .user)
    #expect(eventually { nvram.state == .keyPending(WantedKeys(missing: [place.name("a")])) })
    usleep(300_000)
    #expect(nvram.state == .keyPending(WantedKeys(missing: [place.name("a")])))
    nvram.poke()
    #expect(eventually { nvram.state == .running })
  }

  @Test func withoutARecordNobodyIsAsked() throws {
    try provide()
    let unlocker = Unlocker(audit: AuditLog(.file("/dev/full")), asksForKeys: true)
    let name = place.name("a")
    let use = try KeyUse(
      sealed: SealedVolume(FileDevice.open(path: place.image, access: .readOnly)), .open(nil), slot: 0, name: name,
      kind: .keyring)
    #expect(failure { try unlocker.askAndWait(for: [use]) }?.code == .audit)
  }
}
