import Audit
import BlobStore
import BlockIO
import Foundation
import Keyring
import Primitives
import SecureVolume
import Testing

@testable import VNVRAM

/// A key that the caller has, one key of several, and images that are made as files.
struct GivenKeyTests {
  let place: TestPlace
  private static let entries: [String: UInt64] = ["state": 100]
  private static var specifications: [EntrySpecification] {
    [EntrySpecification(name: "state", capacity: ByteCount(UInt64(100)))]
  }

  init() throws { place = try TestPlace() }

  @Test func startsWithAKey() throws {
    try place.makeStore(Self.entries, further: ["b": 2])
    // The one in the keyring is right, and is not looked at.
    try place.bring("a", 1)
    let nvram = try place.nvram(Self.entries)
    let before = try place.bytes()
    for _ in 0..<2 {
      #expect(failure { try nvram.start(with: TestPlace.key(9)) }?.code == .wrongKey)
      #expect(nvram.state == .closed)
    }
    #expect(failure { try nvram.start(with: TestPlace.key(2), slotName: place.name("a")) }?.code == .wrongKey)
    #expect(try place.bytes() == before)
    try nvram.start(with: TestPlace.key(2))
    let content: [UInt8] = [1, 2, 3]
    try nvram.replaceContent("state", content.span)
    #expect(
      place.events() == [
        "asked-for", "wrong", "asked-for", "wrong", "asked-for a", "wrong a", "asked-for", "unwrapped b",
      ])
    #expect(failure { try nvram.start(with: TestPlace.key(2)) }?.code == .started)
    // No key of the keyring locks it.
    try place.bring("b", 2)
    try Keyring.revoke(place.bring("a", 1))
    usleep(50_000)
    #expect(nvram.state == .running)
    try nvram.close()
    #expect(try place.content("state", capacity: 100) == [1, 2, 3])
  }

  @Test func aStartWithAKeyNeedsARecord() throws {
    try place.makeStore(Self.entries)
    let nvram = try place.nvram(Self.entries, audit: AuditLog(.file("/dev/full")))
    defer { try? nvram.close() }
    let before = try place.bytes()
    #expect(failure { try nvram.start(with: TestPlace.key(1)) }?.code == .audit)
    #expect(try place.bytes() == before && nvram.state == .closed)
  }

  @Test func onlyOneKeyCounts() throws {
    try place.makeStore(Self.entries, further: ["b": 2])
    try place.bring("a", 1)
    let nvram = try place.nvram(Self.entries) { $0.onlyKey = place.name("b") }
    let error = try #require(failure { try nvram.start(failOnEncryptedDrive: true) })
    #expect(error.code == .keyMissing && error.keys.names == [place.name("b")])
    try nvram.start(failOnEncryptedDrive: false)
    usleep(50_000)
    #expect(nvram.state.name == "key-pending")
    try place.bring("b", 2)
    #expect(eventually { nvram.state == .running })
    try Keyring.revoke(place.bring("b", 2))
    #expect(eventually { nvram.state.name == "locked" })
    usleep(50_000)
    #expect(nvram.state.name == "locked", "the other key is there, and doesn't count")
    try place.bring("b", 2)
    #expect(eventually { nvram.state == .running })
    try nvram.close()
  }

  @Test func aKeyWithoutASlot() throws {
    try place.makeStore(Self.entries)
    try place.bring("c", 1)
    let nvram = try place.nvram(Self.entries) { $0.onlyKey = place.name("c") }
    defer { try? nvram.close() }
    let before = try place.bytes()
    for failing in [true, false] {
      let error = try #require(failure { try nvram.start(failOnEncryptedDrive: failing) })
      #expect(error.code == .noSuchSlot && error.status == .notFound)
      #expect(error.detail.contains("\"\(place.name("c"))\"") && error.detail.contains("\"\(place.name("a"))\""))
    }
    #expect(place.events() == ["asked-for c", "missing c"], "the second is counted")
    #expect(try place.bytes() == before && nvram.state == .closed)
  }

  // MARK: Making

  private func make(_ key: UInt8 = 1, audit: AuditLog? = nil) throws -> StoreUUID {
    try NVRAM.makeImage(
      .file(place.image, mode: 0o640), entries: Self.specifications, key: TestPlace.key(key), slotName: place.name("a"),
      audit: audit ?? place.audit)
  }

  @Test func makesAnImage() throws {
    let uuid = try make()
    #expect(try SealedVolume(FileDevice.open(path: place.image, access: .readOnly)).uuid == uuid)
    let mode = try FileManager.default.attributesOfItem(atPath: place.image)[.posixPermissions] as? Int
    #expect(mode == 0o640)
    #expect(place.events() == ["asked-for a", "formatted a"])
    #expect(try place.content("state", capacity: 100) == [])
    try place.bring("k", 5)
    try FileManager.default.removeItem(atPath: place.image)
    _ = try NVRAM.makeImage(
      .file(place.image, mode: 0o600), entries: Self.specifications, keyNamed: place.name("k"), audit: place.audit)
    #expect(place.events().suffix(3) == ["asked-for k", "found k", "formatted k"])
    let device = try FileDevice.open(path: place.image, access: .readOnly)
    #expect(try SealedVolume(device).keyNames == [place.name("k")])
  }

  /// Whatever has the name stays, and where anything goes wrong nothing is left.
  @Test func makesNoImage() throws {
    let names = { try FileManager.default.contentsOfDirectory(atPath: place.directory).filter { $0 != "audit.jsonl" } }
    #expect((failure { _ = try make(audit: AuditLog(.file("/dev/full"))) })?.code == .audit)
    let missing = failure {
      _ = try NVRAM.makeImage(
        .file(place.image, mode: 0o600), entries: Self.specifications, keyNamed: place.name("none"), audit: place.audit)
    }
    #expect(missing?.code == .keyMissing && place.events() == ["asked-for none", "missing none"])
    #expect(try names() == [])
    try FileManager.default.createSymbolicLink(atPath: place.image, withDestinationPath: place.directory + "/gone")
    #expect((failure { _ = try make() })?.code == .device(.exists))
    #expect(try names() == ["image"])
    try FileManager.default.removeItem(atPath: place.image)
    try Data([1]).write(to: URL(fileURLWithPath: place.image))
    #expect((failure { _ = try make() })?.code == .device(.exists))
    #expect(try place.bytes() == Data([1]))
  }
}
