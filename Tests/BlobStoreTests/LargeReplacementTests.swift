import BlockIO
import Primitives
import SecureVolume
import StorageSimulation
import Testing

@testable import BlobStore

/// Replacing a large content, as a whole or piece by piece, writes the sectors that differ from what is on the medium.
struct LargeReplacementTests {
  static let sizes = [4096, 16384, 65536]
  private let items = [
    Item(name: "small", capacity: 300, content: [1, 2, 3]), Item(name: "a", capacity: 1_100_000),
    Item(name: "b", capacity: 5000, content: [4]),
  ]

  private func replace(_ store: BlobStore, _ content: [UInt8], inPieces: Bool) throws {
    guard inPieces else { return try store.put("a", content) }
    let size = try store.replace("a", piecewise: content)
    #expect(size == ByteCount(content.count))
  }

  @Test(arguments: sizes, [true, false]) func onlySectorsThatDiffer(sectorSize: Int, inPieces: Bool) throws {
    var random = SeededGenerator(seed: 9)
    let (made, disk) = try makeStore(items, volumeSize: 1 << 21, sectorSize: sectorSize)
    var content = random.bytes(900_001)
    try replace(made, content, inPieces: inPieces)
    try made.commit()
    let store = try BlobStore(volume(on: disk, sectorSize: sectorSize))
    #expect(try store.content("a") == content)
    for offset in [0, 1, 262_143, 262_144, 500_000, 900_000] {
      content[offset] &+= 1
      try replace(store, content, inPieces: inPieces)
      #expect(store.stagedSectors == 1)
      #expect(try store.content("a", staged: true) == content)
      try store.commit()
      #expect(try store.content("a") == content)
    }
    // The same again is a commit all the same, of the same.
    try replace(store, content, inPieces: inPieces)
    #expect(store.stagedSectors == 1)
    try store.commit()
    // A byte less: its sector and the size's.
    content.removeLast()
    try replace(store, content, inPieces: inPieces)
    #expect((1...2).contains(store.stagedSectors))
    try store.commit()
    // Two in one commit, the second of which takes the first one's change back.
    content[600_000] ^= 1
    try replace(store, content, inPieces: inPieces)
    content[600_000] ^= 1
    content[10] ^= 1
    try replace(store, content, inPieces: inPieces)
    #expect(store.stagedSectors == 2)
    try store.commit()
    try store.check()
    #expect(try BlobStore(volume(on: disk, sectorSize: sectorSize)).content("a") == content)
    for item in items where item.name != "a" { #expect(try store.content(EntryName(item.name)) == item.content) }
  }

  /// Ends anywhere, on what was longer or shorter: nothing is left of the old, and no neighbour is touched.
  @Test(arguments: sizes, [true, false]) func anyEnd(sectorSize: Int, inPieces: Bool) throws {
    let (store, disk) = try makeStore(items, volumeSize: 1 << 21, sectorSize: sectorSize)
    var byte: UInt8 = 1
    for size in [1_100_000, 300_000, 300_001, 262_144, 262_145, 524_288, 0, 1, 700_000, 4096, 1_099_999] {
      byte += 1
      // Half of it as it was.
      var content = try store.content("a") + [UInt8](repeating: byte, count: 1_100_000)
      content.removeSubrange(size...)
      for i in size / 2..<size { content[i] = byte }
      try replace(store, content, inPieces: inPieces)
      #expect(try store.content("a", staged: true) == content)
      try store.commit()
      try store.check()
      let again = try BlobStore(volume(on: disk, sectorSize: sectorSize))
      for (name, expected) in [("small", items[0].content), ("a", content), ("b", items[2].content)] {
        #expect(try again.content(EntryName(name)) == expected)
      }
    }
  }

  /// A sector that can't be read is written anew: what is replaced is needed for nothing.
  @Test(arguments: [true, false]) func unreadable(inPieces: Bool) throws {
    let (store, disk) = try makeStore(items, volumeSize: 1 << 21)
    let content = [UInt8](repeating: 3, count: 1_000_000)
    try replace(store, content, inPieces: inPieces)
    try store.commit()
    let block = Int(try #require(store.entry("a")).offset.value) / 4096 + 50
    disk.makeUnreadable(block: block)
    try replace(store, content, inPieces: inPieces)
    #expect(store.changes.sectors.contains(SectorIndex(block)))
    #expect(store.stagedSectors <= 16)
    disk.clearFaults()
    try store.commit()
    #expect(try store.content("a") == content)
  }

  @Test func refused() throws {
    let (store, disk) = try makeStore(items, volumeSize: 1 << 21)
    let before = disk.bytes
    let tooMuch = [UInt8](repeating: 1, count: 1_100_001)
    #expect(thrown { try store.replace("a", piecewise: tooMuch) }?.code == .tooLarge)
    #expect(thrown { try store.replace("z", piecewise: [1]) }?.code == .noSuchEntry)
    struct Torn: Error {}
    var calls = 0
    #expect(throws: Torn.self) {
      try store.stageReplace("a") { (piece) throws in
        calls += 1
        guard calls < 3 else { throw Torn() }
        return piece.count
      }
    }
    #expect(!store.hasStagedWrites)
    try store.commit()
    #expect(disk.bytes == before)
  }
}
