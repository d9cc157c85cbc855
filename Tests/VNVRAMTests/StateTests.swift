import Audit
import BlobStore
import BlockIO
import Foundation
import Keyring
import Primitives
import SecureVolume
import Testing

@testable import VNVRAM

/// The transitions of DESIGN §4, one after the other.
struct StateTests {
  let place: TestPlace
  let events = Recorder<NVRAMEvent>()
  static let entries: [String: UInt64] = ["state": 4096, "vars": 10_000]

  init() throws {
    place = try TestPlace()
    try place.makeStore(Self.entries, further: ["b": 2])
  }

  private func nvram(
    audit: AuditLog? = nil, _ change: (inout NVRAMConfiguration) -> Void = { _ in }
  ) throws -> NVRAM {
    let nvram = try place.nvram(Self.entries, audit: audit, change)
    let events = self.events
    nvram.observe { events.add($0) }
    return nvram
  }

  // MARK: closed -> …

  @Test func fromClosedToRunning() throws {
    try place.bring("a", 1)
    let nvram = try nvram()
    #expect(nvram.state == .closed)
    #expect(failure { try nvram.readContent("state") }?.code == .notStarted)
    try nvram.start(failOnEncryptedDrive: true)
    #expect(nvram.state == .running && !nvram.hadFatalError)
    #expect(failure { try nvram.start(failOnEncryptedDrive: true) }?.code == .started)
    try nvram.replace("state", content(7))
    #expect(try nvram.readContent("state") == content(7))
    try nvram.close()
    #expect(nvram.state == .closed)
    #expect(failure { try nvram.readContent("state") }?.code == .closed)
    #expect(failure { try nvram.start(failOnEncryptedDrive: true) }?.code == .closed)
    try nvram.close()
    #expect(events.states == ["running", "closed"])
    #expect(try place.content("state", capacity: 4096) == content(7))
  }

  @Test func failsOnAnEncryptedDriveWithoutItsKey() throws {
    let before = try place.bytes()
    let nvram = try nvram()
    defer { try? nvram.close() }
    let error = try #require(failure { try nvram.start(failOnEncryptedDrive: true) })
    #expect(error.code == .keyMissing && error.status == .keyMissing)
    #expect(error.keys.missing == [place.name("a"), place.name("b")])
    #expect(error.description.contains(place.name("a")) && error.description.contains(place.image))
    #expect(nvram.state == .closed)
    #expect(failure { try nvram.replace("state", content(1)) }?.code == .notStarted)
    #expect(try place.bytes() == before)
    #expect(place.events() == ["asked-for a", "missing a", "asked-for b", "missing b"])
    // And once the key is there, the same one starts.
    try place.bring("b", 2)
    try nvram.start(failOnEncryptedDrive: true)
    #expect(nvram.state == .running)
  }

  @Test func waitsWithoutItsKey() throws {
    let before = try place.bytes()
    let nvram = try nvram()
    try nvram.start(failOnEncryptedDrive: false)
    let names = [place.name("a"), place.name("b")]
    #expect(nvram.state == .keyPending(WantedKeys(missing: names)))
    #expect(eventually { events.all == [.state(.keyPending(WantedKeys(missing: names)))] })
    // Looked for again and again, recorded once.
    usleep(100_000)
    #expect(place.events() == ["asked-for a", "missing a", "asked-for b", "missing b"])
    #expect(try place.bytes() == before)
    try nvram.close()
    #expect(try place.bytes() == before)
  }

  @Test func anImageWithoutAStoreIsUnformatted() throws {
    let path = place.directory + "/blank"
    let device = try FileDevice.create(path: path, size: ByteCount(UInt64(1 << 20)), replacing: false)
    device.close()
    let nvram = try NVRAM.setUp(path: path, audit: place.audit)
    defer { try? nvram.close() }
    for fails in [true, false] {
      let error = failure { try nvram.start(failOnEncryptedDrive: fails) }
      #expect(error?.code == .unformatted && error?.status == .notAnImage)
      #expect(nvram.state == .unformatted)
    }
  }

  @Test func aDamagedImageFails() throws {
    try place.bring("a", 1)
    let device = try FileDevice.open(path: place.image, access: .readWrite)
    for offset in [144, 65536 + 144] as [UInt64] {
      var byte = ByteBuffer(count: 1)
      try device.read(at: ByteOffset(offset), into: byte.mutableSpan)
      byte.store(byte.load(UInt8.self, at: 0) ^ 1, at: 0)
      try device.write(byte.span, at: ByteOffset(offset))
    }
    device.close()
    let nvram = try nvram()
    defer { try? nvram.close() }
    #expect(failure { try nvram.start(failOnEncryptedDrive: false) }?.status == .notAuthentic)
    #expect(nvram.hadFatalError)
    let later = failure { try nvram.replace("state", content(1)) }
    #expect(later?.code == .failedEarlier && later?.status == .notAuthentic)
  }

  // MARK: keyPending -> …

  @Test func aKeyThatComesLetsItRun() throws {
    let nvram = try nvram()
    defer { try? nvram.close() }
    try nvram.start(failOnEncryptedDrive: false)
    try place.bring("b", 2)
    #expect(eventually { events.states == ["key-pending", "verifying", "running"] })
    #expect(nvram.state == .running)
    let found = ["asked-for b", "found b", "unwrapped b"]
    #expect(eventually { place.events().dropFirst(4) == found + ["repeated a"] }, "\(place.events())")
  }

  @Test func aWrongKeyLeavesItWaitingAndIsTriedOnce() throws {
    let before = try place.bytes()
    let nvram = try nvram()
    defer { try? nvram.close() }
    try nvram.start(failOnEncryptedDrive: false)
    try place.bring("a", 9)
    let wanted = WantedKeys(missing: [place.name("b")], wrong: [place.name("a")])
    #expect(eventually { nvram.state == .keyPending(wanted) })
    usleep(100_000)
    #expect(place.events().filter { $0 == "wrong a" }.count == 1)
    #expect(try place.bytes() == before)
    // The same number, another content: it is tried again.
    try place.bring("a", 1)
    #expect(eventually { nvram.state == .running })
    #expect(place.events().filter { $0 == "wrong a" }.count == 1)
  }

  @Test func pokedItLooksAtOnce() throws {
    let nvram = try nvram {
      $0.shortestKeySearchInterval = .seconds(3600)
      $0.longestKeySearchInterval = .seconds(3600)
    }
    defer { try? nvram.close() }
    try nvram.start(failOnEncryptedDrive: false)
    try place.bring("a", 1)
    nvram.poke()
    #expect(eventually { nvram.state == .running })
  }

  @Test func aRecoveryKeyLetsItRunToo() throws {
    try place.addSlot(TestPlace.key(3, .recovery), "recovery")
    let nvram = try nvram()
    defer { try? nvram.close() }
    try nvram.start(failOnEncryptedDrive: false)
    #expect(failure { try nvram.unlock(with: TestPlace.key(4, .recovery)) }?.code == .wrongKey)
    #expect(nvram.state.name == "key-pending")
    try nvram.unlock(with: TestPlace.key(3, .recovery))
    #expect(nvram.state == .running)
  }

  // MARK: running -> locked -> …

  @Test func underThePolicyKeepItGoesOn() throws {
    let serial = try place.bring("a", 1)
    let nvram = try nvram { $0.keyLossPolicy = .keep }
    defer { try? nvram.close() }
    try nvram.start(failOnEncryptedDrive: true)
    try Keyring.revoke(serial)
    usleep(50_000)
    try nvram.replace("state", content(1))
    #expect(nvram.state == .running)
  }

  @Test func anotherKeyThatIsThereTakesOver() throws {
    let serial = try place.bring("a", 1)
    try place.bring("b", 2)
    let nvram = try nvram()
    defer { try? nvram.close() }
    try nvram.start(failOnEncryptedDrive: true)
    try Keyring.revoke(serial)
    #expect(eventually { events.states == ["running", "locked", "verifying", "running"] })
    try nvram.replace("state", content(1))
  }

  @Test func askedToItLocksUntilThePoke() throws {
    try place.bring("a", 1)
    let nvram = try nvram()
    defer { try? nvram.close() }
    try nvram.start(failOnEncryptedDrive: true)
    try nvram.replace("state", content(1))
    try nvram.lock()
    #expect(nvram.state == .locked(WantedKeys()))
    usleep(100_000)
    #expect(nvram.state == .locked(WantedKeys()))
    #expect(place.events().last == "locked a")
    nvram.poke()
    #expect(eventually { nvram.state == .running })
    #expect(try nvram.readContent("state") == content(1))
  }

  @Test func askedToItLocksUntilTheKeyChanges() throws {
    let serial = try place.bring("a", 1)
    let nvram = try nvram()
    defer { try? nvram.close() }
    try nvram.start(failOnEncryptedDrive: true)
    try nvram.lock()
    try Keyring.revoke(serial)
    try place.bring("a", 1)
    #expect(eventually { nvram.state == .running })
  }

  // MARK: Records

  @Test func withoutARecordTheKeyIsNotUsed() throws {
    try place.bring("a", 1)
    let before = try place.bytes()
    let nvram = try nvram(audit: AuditLog(.file("/dev/full")))
    defer { try? nvram.close() }
    let error = failure { try nvram.start(failOnEncryptedDrive: false) }
    #expect(error?.code == .audit && error?.status == .auditFailed)
    #expect(nvram.state == .closed)
    #expect(try place.bytes() == before)
  }

  @Test func withoutARecordTheKeyThatComesIsNotUsed() throws {
    let nvram = try nvram()
    defer { try? nvram.close() }
    try nvram.start(failOnEncryptedDrive: false)
    let before = try place.bytes()
    // A directory in the log's place.
    _ = unsafe unlink(place.auditPath)
    _ = unsafe mkdir(place.auditPath, 0o700)
    try place.bring("a", 1)
    let failedToRecord = eventually {
      events.all.contains { if case .trouble(let error) = $0 { error.code == .audit } else { false } }
    }
    #expect(failedToRecord)
    #expect(!events.states.contains("running"))
    #expect(try place.bytes() == before)
    _ = unsafe rmdir(place.auditPath)
    #expect(eventually { nvram.state == .running })
  }
}
