import Audit
import BlobStore
import BlockIO
import Foundation
import Keyring
import Primitives
import SecureVolume
import Testing

@testable import VNVRAM

/// Making stores and removing them, only when told to.
struct FormatTests {
  let place: TestPlace

  init() throws { place = try TestPlace() }

  private func blank(_ size: UInt64) throws {
    try FileDevice.create(path: place.image, size: ByteCount(size), replacing: false).close()
  }

  @Test func theSizeIsKnownBeforehand() throws {
    try blank(4096)
    let nvram = try place.nvram(["state": 100_000, "vars": 5000])
    let needed = try nvram.requiredSize()
    let error = failure { try nvram.format(key: TestPlace.key(1), slotName: place.name("a")) }
    #expect(error?.status == .noSpace && error?.detail.contains(String(needed.value)) == true)
    #expect(try place.bytes() == Data(count: 4096))
    try nvram.format(key: TestPlace.key(1), slotName: place.name("a"), growing: true)
    #expect(try place.bytes().count == Int(needed.value))
    try nvram.close()
    #expect(try place.content("state", capacity: 100_000) == [])
  }

  @Test func exactlyEnoughIsEnough() throws {
    try blank(1)
    let first = try place.nvram(["state": 10_000])
    let needed = try first.requiredSize()
    try first.close()
    try FileManager.default.removeItem(atPath: place.image)
    try blank(needed.value - 4096)
    let second = try place.nvram(["state": 10_000])
    #expect(failure { try second.format(key: TestPlace.key(1), slotName: "a") }?.status == .noSpace)
    try second.close()
    try FileManager.default.removeItem(atPath: place.image)
    try blank(needed.value)
    let third = try place.nvram(["state": 10_000])
    try third.format(key: TestPlace.key(1), slotName: "a")
    try third.close()
  }

  @Test func neverOverAStoreWithoutBeingTold() throws {
    try place.makeStore(["state": 100])
    let before = try place.bytes()
    let nvram = try place.nvram(["state": 100])
    defer { try? nvram.close() }
    let error = failure { try nvram.format(key: TestPlace.key(2), slotName: place.name("a")) }
    #expect(error?.code == .volume(.exists) && error?.status == .refused)
    #expect(try place.bytes() == before)
    try nvram.format(key: TestPlace.key(2), slotName: place.name("a"), replacing: true)
    #expect(try place.bytes() != before)
    try place.bring("a", 1)
    #expect(failure { try nvram.start(failOnEncryptedDrive: true) }?.code == .wrongKey)
    try place.bring("a", 2)
    try nvram.start(failOnEncryptedDrive: true)
    // While it runs, not even then.
    #expect(failure { try nvram.format(key: TestPlace.key(2), slotName: "a", replacing: true) }?.code == .started)
  }

  /// Damage doesn't make a store less of one.
  @Test func aDamagedStoreIsAStore() throws {
    try place.makeStore(["state": 100])
    let device = try FileDevice.open(path: place.image, access: .readWrite)
    try device.write([UInt8](repeating: 0xAA, count: 4096).span, at: ByteOffset(100))
    device.close()
    let nvram = try place.nvram(["state": 100])
    defer { try? nvram.close() }
    #expect(failure { try nvram.format(key: TestPlace.key(2), slotName: "a") }?.code == .volume(.exists))
  }

  @Test func withAKernelKeyAndItsRecord() throws {
    try blank(1 << 20)
    let nvram = try place.nvram(["state": 100])
    defer { try? nvram.close() }
    #expect(failure { try nvram.format(keyNamed: place.name("a")) }?.code == .keyMissing)
    try place.bring("a", 1, count: 31)
    #expect(failure { try nvram.format(keyNamed: place.name("a")) }?.code == .wrongKey)
    #expect(try place.bytes() == Data(count: 1 << 20))
    try place.bring("a", 1)
    try nvram.format(keyNamed: place.name("a"))
    #expect(
      place.events() == [
        "asked-for a", "missing a", "asked-for a", "found a", "wrong a", "asked-for a", "found a", "formatted a",
      ])
    try nvram.start(failOnEncryptedDrive: true)
  }

  @Test func withoutARecordNothingIsFormatted() throws {
    try blank(1 << 20)
    let nvram = try place.nvram(["state": 100], audit: AuditLog(.file("/dev/full")))
    defer { try? nvram.close() }
    #expect(failure { try nvram.format(key: TestPlace.key(1), slotName: "a") }?.status == .auditFailed)
    #expect(try place.bytes() == Data(count: 1 << 20))
  }

  // MARK: The plain form

  @Test func plainOnlyByName() throws {
    try blank(1 << 16)
    let plain = try place.nvram(["state": 100]) { $0.form = .plain }
    try plain.formatPlain()
    try plain.start(failOnEncryptedDrive: true)
    try plain.replace("state", content(3))
    #expect(try plain.readContent("state") == content(3))
    try plain.close()
    #expect(try place.bytes().contains(Data("qemu-nvram".utf8)))

    let encrypted = try place.nvram(["state": 100])
    let error = failure { try encrypted.start(failOnEncryptedDrive: false) }
    #expect(error?.code == .volume(.notEncrypted) && error?.status == .refused)
    #expect(failure { try encrypted.format(key: TestPlace.key(1), slotName: "a") }?.code == .volume(.exists))
    try encrypted.close()
  }

  @Test func anEncryptedImageIsNoPlainOne() throws {
    try place.makeStore(["state": 100])
    let plain = try place.nvram(["state": 100]) { $0.form = .plain }
    defer { try? plain.close() }
    #expect(failure { try plain.start(failOnEncryptedDrive: true) }?.code == .volume(.notEncrypted))
    #expect(failure { try plain.formatPlain() }?.code == .volume(.exists))
  }

  // MARK: Removing

  @Test func deletesTheImageAndSaysSo() throws {
    try place.makeStore(["state": 100])
    let open = try place.nvram(["state": 100])
    #expect(failure { try NVRAM.deleteImage(path: place.image, audit: place.audit) }?.status == .inUse)
    try open.close()
    #expect(
      failure { try NVRAM.deleteImage(path: place.image, audit: AuditLog(.file("/dev/full"))) }?.status == .auditFailed)
    #expect(FileManager.default.fileExists(atPath: place.image))
    let link = place.directory + "/second name"
    try FileManager.default.linkItem(atPath: place.image, toPath: link)
    try NVRAM.deleteImage(path: place.image, audit: place.audit)
    #expect(!FileManager.default.fileExists(atPath: place.image))
    #expect(place.events() == ["removed"])
    // What is left under another name opens with no key.
    let rest = try FileDevice.open(path: link, access: .readWrite)
    #expect(throws: VolumeError.self) { try SealedVolume(rest) }
  }

  @Test func deletesNothingElse() throws {
    try blank(1 << 16)
    #expect(failure { try NVRAM.deleteImage(path: place.image, audit: place.audit) }?.status == .notAnImage)
    #expect(FileManager.default.fileExists(atPath: place.image))
  }
}
