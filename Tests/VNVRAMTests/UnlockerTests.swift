import Audit
import BlockIO
import Foundation
import Keyring
import Primitives
import SecureVolume
import Testing

@testable import VNVRAM

/// Every way in which a key opens a store, or doesn't, and what the record says of it.
struct UnlockerTests {
  let place: TestPlace
  let device: FileDevice

  /// A store with two keyring slots, `a` (content 1) and `b` (content 2), and a recovery key (content 3).
  init() throws {
    place = try TestPlace()
    let geometry = try #require(Geometry(blockSize: 4096, sectorCount: 4))
    device = try FileDevice.create(path: place.image, size: geometry.imageSize, replacing: false)
    try VolumeFormatter.format(
      device, geometry: geometry, key: TestPlace.key(1), name: place.name("a"), created: 1
    ) { (_, _) throws(VolumeError) in }
    let volume = try SealedVolume(device).unlock(with: TestPlace.key(1))
    try volume.addSlot(TestPlace.key(2), name: place.name("b"), created: 1)
    try volume.addSlot(TestPlace.key(3, .recovery), name: "recovery", created: 1)
    try volume.close()
  }

  private func failure(_ unlocker: Unlocker? = nil) throws -> NVRAMError? {
    let sealed = try SealedVolume(device)
    do {
      _ = try (unlocker ?? Unlocker(audit: place.audit)).unlock(sealed)
      return nil
    } catch { return error }
  }

  @Test func opensWithTheFirstKeyThatIsThere() throws {
    try place.bring("a", 1)
    #expect(try failure() == nil)
    #expect(place.events() == ["asked-for a", "found a", "unwrapped a"])
  }

  @Test func namesEveryMissingKey() throws {
    let error = try #require(try failure())
    #expect(error.code == .keyMissing && error.status == .keyMissing)
    #expect(error.keys.missing == [place.name("a"), place.name("b")])
    #expect(error.description.contains(place.image) && error.description.contains("\"\(place.name("b"))\""))
    #expect(place.events() == ["asked-for a", "missing a", "asked-for b", "missing b"])
  }

  @Test func aWrongKeyIsNotAMissingOne() throws {
    try place.bring("a", 9)
    let error = try #require(try failure())
    #expect(error.code == .wrongKey && error.status == .wrongKey)
    #expect(error.keys.wrong == [place.name("a")] && error.keys.missing == [place.name("b")])
    #expect(place.events() == ["asked-for a", "found a", "wrong a", "asked-for b", "missing b"])
  }

  @Test func aRightKeyMakesUpForAWrongOne() throws {
    try place.bring("a", 9)
    try place.bring("b", 2)
    #expect(try failure() == nil)
    #expect(place.events() == ["asked-for a", "found a", "wrong a", "asked-for b", "found b", "unwrapped b"])
  }

  @Test func aKeyOfAnotherSlotIsWrong() throws {
    try place.bring("a", 2)
    #expect(try failure()?.code == .wrongKey)
  }

  @Test(arguments: [1, 31, 33]) func aKeyOfTheWrongSizeIsWrong(count: Int) throws {
    try place.bring("a", 1, count: count)
    #expect(try failure()?.code == .wrongKey)
    #expect(place.events().prefix(3) == ["asked-for a", "found a", "wrong a"])
  }

  @Test func revokedKeysAreUnusable() throws {
    try Keyring.revoke(place.bring("a", 1))
    let error = try #require(try failure())
    #expect(error.code == .keyUnusable && error.status == .keyUnusable)
    #expect(error.keys.unusable.map(\.name) == [place.name("a")])
    #expect(place.events().prefix(2) == ["asked-for a", "revoked a"])
  }

  @Test func aKeyThatMayNotBeReadIsDenied() throws {
    try place.bring("a", 1, permissions: [.possessor([.view, .read]), .user([.view, .setAttributes])])
    let error = try #require(try failure())
    #expect(error.code == .keyUnusable)
    #expect(place.events().prefix(2) == ["asked-for a", "denied a"])
  }

  @Test func aRecoveryKeyOpensAndIsRecorded() throws {
    let unlocker = Unlocker(audit: place.audit)
    let volume = try unlocker.unlock(SealedVolume(device), with: TestPlace.key(3, .recovery))
    #expect(volume.sectorCount == 4)
    #expect(place.events() == ["asked-for", "unwrapped recovery"], "the slot that it opened")
    #expect {
      _ = try unlocker.unlock(SealedVolume(device), with: TestPlace.key(4, .recovery))
    } throws: { ($0 as? NVRAMError)?.code == .wrongKey }
    #expect(place.events().suffix(2) == ["asked-for", "wrong"])
  }

  @Test func withoutARecordNoKeyIsUsed() throws {
    try place.bring("a", 1)
    let before = try place.bytes()
    let error = try #require(try failure(Unlocker(audit: AuditLog(.file("/dev/full")))))
    #expect(error.code == .audit && error.status == .auditFailed)
    #expect(try place.bytes() == before)
    // Opening for writing begins a new epoch, so the image would have changed.
    #expect(try failure(Unlocker(audit: AuditLog(.file("/dev/full"), policy: .bestEffort))) == nil)
    #expect(try place.bytes() != before)
  }

  @Test func aDamagedImageIsNotAWrongKey() throws {
    try place.bring("a", 1)
    // The generation, in both header copies: the key opens its slot and the header doesn't verify.
    device.close()
    let handle = try #require(FileHandle(forUpdatingAtPath: place.image))
    for offset in [144, 65536 + 144] as [UInt64] {
      try handle.seek(toOffset: offset)
      let byte = try #require(try handle.read(upToCount: 1)?.first)
      try handle.seek(toOffset: offset)
      try handle.write(contentsOf: Data([byte ^ 1]))
    }
    try handle.close()
    let again = try FileDevice.open(path: place.image, access: .readWrite)
    #expect {
      _ = try Unlocker(audit: place.audit).unlock(SealedVolume(again))
    } throws: { ($0 as? NVRAMError)?.status == .notAuthentic }
  }

  @Test func fingerprintsTellContentAndKeysApart() throws {
    let read = { (serial: KeySerial) in try SightedKey(reading: serial).sighting }
    let first = try place.bring("a", 1)
    let seen = try read(first)
    #expect(try read(first) == seen)
    let second = try place.bring("a", 2)
    #expect(first == second)
    #expect(try read(first) != seen)
    try place.bring("a", 1)
    #expect(try read(first) == seen)
  }

  /// A glance tells number and size, and reads nothing.
  @Test func glancesTellKeysApart() throws {
    let glance = { (key: String) in KeySighting(glancingAt: place.name(key)) }
    let first = try place.bring("a", 1)
    #expect(glance("a") == .unread(first))
    let seen = try SightedKey(reading: first).sighting
    #expect(!seen.differs(from: glance("a")))
    try place.bring("a", 1, count: 31)
    #expect(glance("a") == .unsuitable(first, .wrongSize(actual: 31)) && seen.differs(from: glance("a")))
    try Keyring.revoke(first)
    #expect(glance("a") == .absent(.revoked) && seen.differs(from: glance("a")))
    let second = try place.bring("a", 1)
    #expect(glance("a") == .unread(second) && seen.differs(from: glance("a")), "another key with the same content")
    try Keyring.setPermissions(second, [.possessor([.view, .search]), .user([.view, .setAttributes])])
    #expect(glance("a") == .unread(second), "who may search may read")
    try Keyring.setPermissions(second, [.possessor([.view]), .user([.view, .setAttributes])])
    #expect(glance("a") == .absent(.denied) && seen.differs(from: glance("a")))
    #expect(glance("b") == .absent(.missing))
    #expect(KeySighting(glancingAt: "no name") == .absent(.missing))
  }
}
