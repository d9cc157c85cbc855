import Audit
import BlockIO
import Foundation
import Keyring
import Primitives
import SecureVolume
import Testing

@testable import VNVRAM

/// The keys of a store whose worker may be an attacker: it gets one store key, of the store that the image was before
/// it could write to it.
@Suite struct StoreKeyKeeperTests {
  let place: TestPlace
  let keeper: StoreKeyKeeper

  init() throws {
    place = try TestPlace()
    try place.makeStore(["state": 4096])
    keeper = StoreKeyKeeper(audit: place.audit, configuration: NVRAMConfiguration())
  }

  private func begin(_ place: TestPlace) throws { keeper.begin(try FileDevice.openUnlocked(path: place.image)) }

  private var granted: StoreKeyGrant? { if case .granted(let grant) = keeper.standing { grant } else { nil } }

  @Test func theStoreKeyIsGivenOnceAndOpensTheImage() throws {
    try place.bring("a", 1)
    try begin(place)
    try keeper.lookNow()
    let grant = try #require(granted)
    #expect(place.events() == ["asked-for a", "found a", "unwrapped a"])
    let taken = grant.takeStoreKey()
    let again = grant.takeStoreKey()
    if case .some = again { Issue.record("a second time") }
    let nvram = try place.nvram(["state": 4096])
    switch consume taken {
    case .some(let key): try nvram.start(withStoreKey: key, of: grant.uuid)
    case .none: Issue.record("no store key")
    }
    #expect(nvram.state == .running)
    try nvram.close()
  }

  /// The worker puts the header of another machine's store, whose key is in the same user's keyrings, into its own
  /// image.
  @Test func noOtherStoresKey() throws {
    let other = try TestPlace()
    let device = try FileDevice.create(path: other.image, size: ByteCount(UInt64(0)), replacing: false)
    let nvram = NVRAM(device, audit: AuditLog(.none))
    try nvram.register(entry: "state", capacity: ByteCount(UInt64(4096)))
    // Under a key of the first one's name, even.
    try nvram.format(key: TestPlace.key(1), slotName: place.name("a"), growing: true)
    try nvram.close()
    try place.bring("a", 1)
    let own = try SealedVolume(FileDevice.openUnlocked(path: place.image)).uuid
    try begin(place)
    let stolen = try other.bytes()
    let file = try FileHandle(forUpdating: URL(fileURLWithPath: place.image))
    try file.write(contentsOf: stolen)
    try file.close()
    try keeper.lookNow()
    #expect(granted?.uuid == own)
    // Closed and taken again, as in a migration.
    keeper.end()
    try begin(place)
    try keeper.lookNow()
    guard case .refused(let error) = keeper.standing else {
      Issue.record("another store's key was given")
      return
    }
    #expect(error.status == .notAuthentic)
    #expect(place.events().filter { $0.hasPrefix("unwrapped") }.count == 1)
  }

  /// Who asks without end, and says each time that it couldn't be opened, has keys tried now and then.
  @Test func asksWithoutEnd() throws {
    try place.bring("a", 1)
    try begin(place)
    for _ in 0..<200 {
      try keeper.lookNow()
      if granted != nil { keeper.openingFailed(NVRAMError(.audit, .auditFailed, store: "", "as it says")) }
    }
    #expect(place.events().filter { $0.hasPrefix("unwrapped") }.count < 20)
  }

  @Test func aLostKeyIsToldAndComesBack() throws {
    let serial = try place.bring("a", 1)
    try begin(place)
    try keeper.lookNow()
    _ = try #require(granted)
    try Keyring.revoke(serial)
    try wait { events in events.contains { if case .lost = $0 { true } else { false } } }
    keeper.dropped()
    #expect(keeper.isLocked)
    try place.bring("a", 1)
    try wait { events in events.contains { if case .granted = $0 { true } else { false } } }
  }

  private func wait(until isDone: ([StoreKeyKeeper.Event]) -> Bool) throws {
    for _ in 0..<5000 {
      if isDone(keeper.proceed()) { return }
      usleep(2000)
    }
    Issue.record("it didn't come to that")
  }
}
