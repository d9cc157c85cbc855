import BlockIO
import Crypto
import Primitives
import SecureVolume
import StorageSimulation
import Testing

@testable import BlobStore

/// The first use of an entry's content verifies all of that entry's encoding (FORMAT §8), before it gives anything out.
struct VerificationTests {
  private let items = [
    Item(name: "small", capacity: 100, content: [1, 2, 3]),
    Item(name: "a", capacity: 10_000, content: [UInt8](repeating: 7, count: 9000)),
    Item(name: "b", capacity: 200_000, content: [UInt8](repeating: 8, count: 4500)),
    Item(name: "none", capacity: 90_000),
  ]

  /// The rules, by the place in the stream of a byte that has to be zero.
  private static let rules: [(entry: Int, what: String, place: @Sendable (StreamLayout.Place) -> UInt64)] = [
    (0, "the first byte beyond the real size", { $0.content + 3 }), (0, "its last", { $0.end - 1 }),
    (
      1, "the padding's first byte",
      { place in
        place.content - UInt64(place.contentHeader.size) - (StreamLayout.paddingLength(place.padding) ?? 0)
      }
    ),
    (1, "the padding's last", { $0.content - UInt64($0.contentHeader.size) - 1 }),
    (1, "the first byte beyond the real size", { $0.content + 9000 }), (1, "its last", { $0.end - 1 }),
    (2, "the padding", { $0.content - 1000 }), (2, "the first byte beyond the real size", { $0.content + 4500 }),
    (2, "far beyond the real size", { $0.content + 150_001 }), (2, "its last", { $0.end - 1 }),
    (3, "the content of an empty entry", { $0.content }), (3, "its last", { $0.end - 1 }),
  ]

  private func makeKey() -> KeyEncryptionKey {
    var secret = SecretBytes(count: 32)
    var out = secret.mutableSpan
    for i in 0..<32 { out[i] = UInt8(5 * i + 2) }
    return KeyEncryptionKey(.keyring, secret)
  }

  /// An encrypted volume with these entries.
  private func makeSealed() throws -> SecureVolume {
    let layout = try StreamLayout(items.map(\.specification))
    let geometry = try #require(Geometry(holding: layout.size, blockSize: 4096))
    let disk = SimulatedDisk(size: geometry.imageSize)
    try VolumeFormatter.format(disk, geometry: geometry, key: makeKey(), name: "k", created: 1) {
      (sector, out) throws(VolumeError) in
      layout.fillPlaintext(sector, sectorSize: 4096, into: out)
    }
    let volume = try SealedVolume(disk).unlock(with: makeKey())
    let store = try BlobStore(volume)
    for item in items { try store.put(EntryName(item.name), item.content) }
    try store.commit()
    return volume
  }

  private func makePlain() throws -> SizedVolume {
    let (_, disk) = try makeStore(items, volumeSize: 1 << 19, sectorSize: 65536)
    return SizedVolume(disk, sectorSize: 65536)
  }

  /// Changes a byte of the stream beneath the store, authentically.
  private func change(_ volume: any SectorVolume, at offset: UInt64, to byte: UInt8 = 1) throws {
    var changes = SectorChanges(sectorSize: volume.sectorSize)
    let sector = SectorIndex(offset / UInt64(volume.sectorSize))
    let place = changes.append(sector)
    try volume.read(sector, into: changes.mutablePlaintext(place))
    var plaintext = changes.mutablePlaintext(place)
    plaintext[Int(offset) % volume.sectorSize] = byte
    try volume.commit(changes)
  }

  @Test(arguments: rules.indices, [true, false]) func everyRule(rule: Int, isSealed: Bool) throws {
    let volume: any SectorVolume = isSealed ? try makeSealed() : try makePlain()
    let (index, what, place) = Self.rules[rule]
    let name = try EntryName(items[index].name)
    let offset = place(try StreamLayout(items.map(\.specification)).places[index])
    try change(volume, at: offset)

    // It opens, and the other entries are to be had.
    let store = try BlobStore(volume)
    for item in items where item.name != name.text { #expect(try store.content(EntryName(item.name)) == item.content) }

    var errors: [BlobStoreError?] = []
    var byte: [UInt8] = [0xEE]
    errors.append(thrown { try store.read(name, into: byte.mutableSpan) })
    errors.append(thrown { try store.read(name, at: ByteOffset(1 << 30), into: byte.mutableSpan, staged: true) })
    #expect(byte == [0xEE], "\(what): something was read")
    errors.append(thrown { _ = try store.content(name) })
    var pieces = 0
    errors.append(thrown { try store.dump { _ in pieces += 1 } })
    #expect(pieces == 0, "\(what): something was dumped")
    // What would carry the byte over into content, or into another encoding.
    errors.append(thrown { try store.put(name, at: items[index].content.count, [1]) })
    errors.append(thrown { try store.resize(name, capacity: ByteCount(items[index].capacity - 1)) })
    errors.append(thrown { try store.check() })
    for error in errors {
      #expect(error?.code == .damaged && error?.status == .notAuthentic, "\(what): \(error?.detail ?? "nothing")")
      #expect(error?.entry == name && error?.offset == ByteOffset(offset))
    }
    #expect(!store.hasStagedWrites)

    try change(volume, at: offset, to: 0)
    #expect(try store.content(name) == items[index].content)
    try store.check()
  }

  /// Another layout encodes entries anew, which must not hide what was wrong with them.
  @Test func anotherLayout() throws {
    let volume = try makePlain()
    let place = try StreamLayout(items.map(\.specification)).places[2]
    try change(volume, at: place.end - 1)
    let store = try BlobStore(volume)
    let errors = [
      thrown { try store.resize("a", capacity: ByteCount(20_000)) }, thrown { try store.remove("small") },
      thrown { try store.add(Item(name: "new", capacity: 5000).specification) }, thrown { _ = try store.content("b") },
    ]
    for error in errors { #expect(error?.code == .damaged && error?.entry == "b") }
    #expect(store.entries.map(\.name.text) == items.map(\.name))
    try store.remove("b")
    try store.check()
    for item in items where item.name != "b" { #expect(try store.content(EntryName(item.name)) == item.content) }
  }

  /// Later reads read what they are asked for. What the program writes needs no verifying.
  @Test func once() throws {
    let (made, disk) = try makeStore(items, volumeSize: 1 << 19)
    try made.check()
    let store = try BlobStore(PlainVolume(disk))
    var byte: [UInt8] = [0]
    let before = disk.reads
    try store.read("b", into: byte.mutableSpan)
    #expect(disk.reads > before + 3)
    disk.makeUnreadable(block: Int(try #require(store.entry("b")).offset.value) / 4096 + 20)
    try store.read("b", at: ByteOffset(4000), into: byte.mutableSpan)
    try store.put("b", at: 5000, [1])
    try store.put("b", [1, 2])
    try store.commit()
    try store.read("b", at: ByteOffset(1), into: byte.mutableSpan)
    #expect(byte == [2])
    #expect(thrown { try BlobStore(PlainVolume(disk)).read("b", into: byte.mutableSpan) }?.status == .inputOutput)
  }
}
