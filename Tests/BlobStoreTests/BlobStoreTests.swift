import Primitives
import SecureVolume
import StorageSimulation
import Testing

@testable import BlobStore

struct BlobStoreTests {
  private let items = [
    Item(name: "a", capacity: 100, content: [1, 2, 3]),
    Item(name: "b", capacity: 10000, content: [UInt8](repeating: 7, count: 9000)),
    Item(name: "c", capacity: 5000, content: [4, 5]),
  ]

  private func check(_ store: BlobStore, _ items: [Item]) throws {
    try store.check()
    let bytes = try store.dumped()
    #expect(bytes == makeStream(items))
    for item in items { #expect(try store.content(EntryName(item.name)) == item.content) }
  }

  @Test(arguments: [4096, 16384, 65536]) func makingAndOpening(sectorSize: Int) throws {
    let (store, disk) = try makeStore(items, volumeSize: 65536, sectorSize: sectorSize)
    try check(store, items)
    try check(BlobStore(volume(on: disk, sectorSize: sectorSize)), items)
    #expect(try BlobStore.size(of: items.map(\.specification)) == store.streamSize)
    // The first content that a sealed volume is given is the same.
    let layout = try StreamLayout(items.map(\.specification))
    var sector = ByteBuffer(count: sectorSize)
    layout.fillPlaintext(SectorIndex(0), sectorSize: sectorSize, into: sector.mutableSpan)
    let empty = makeStream(items.map { Item(name: $0.name, capacity: $0.capacity) })
    let first = sector.span.array
    #expect(first == Array((empty + [UInt8](repeating: 0, count: sectorSize)).prefix(sectorSize)))
  }

  @Test func initialisingOverAnotherStore() throws {
    let (_, disk) = try makeStore(items, volumeSize: 65536)
    let volume = PlainVolume(disk)
    try BlobStore.initialise(volume, entries: [items[2].specification])
    try check(BlobStore(volume), [Item(name: "c", capacity: 5000)])
    // Cut short anywhere before the end it is no stream.
    let writes = disk.bytes
    let copy = makeDisk(holding: writes)
    copy.inject(.fails(errno: 5), at: .sync(2))
    #expect(thrown { try BlobStore.initialise(PlainVolume(copy), entries: [items[0].specification]) } != nil)
    #expect(thrown { _ = try BlobStore(PlainVolume(copy)) }?.code == .damaged)
  }

  @Test func volumeTooSmall() throws {
    let (volume, disk) = makeVolume(16384)
    let needed = try BlobStore.size(of: items.map(\.specification))
    let error = thrown { try BlobStore.initialise(volume, entries: items.map(\.specification)) }
    #expect(error?.code == .noSpace(needed: needed))
    #expect(error?.status == .noSpace)
    #expect(disk.bytes.allSatisfy { $0 == 0 })
  }

  // MARK: Reading

  @Test func readingParts() throws {
    var random = SeededGenerator(seed: 5)
    let content = random.bytes(9000)
    for sectorSize in [4096, 16384, 65536] {
      let (store, _) = try makeStore(
        [Item(name: "x", capacity: 10000, content: content)], volumeSize: 65536, sectorSize: sectorSize)
      for (offset, count) in [(0, 1), (1, 4095), (4095, 2), (0, 9000), (511, 514), (4096, 4096), (8999, 1), (3, 8192)] {
        var bytes = [UInt8](repeating: 0xEE, count: count)
        let read = try store.read("x", at: ByteOffset(offset), into: bytes.mutableSpan)
        #expect(read == count)
        #expect(bytes == Array(content[offset..<offset + count]))
      }
      var bytes = [UInt8](repeating: 0xEE, count: 100)
      #expect(try store.read("x", at: ByteOffset(8950), into: bytes.mutableSpan) == 50)
      #expect(bytes == content[8950...] + [UInt8](repeating: 0xEE, count: 50))
      #expect(try store.read("x", at: ByteOffset(9000), into: bytes.mutableSpan) == 0)
      #expect(try store.read("x", at: ByteOffset(UInt64.max), into: bytes.mutableSpan) == 0)
    }
  }

  @Test func limitsAndNames() throws {
    let (store, _) = try makeStore(items, volumeSize: 65536)
    #expect(thrown { _ = try store.read("b", limit: 8999) }?.code == .tooLarge)
    #expect(thrown { _ = try store.read("z", limit: 1) }?.code == .noSuchEntry)
    #expect(thrown { try store.put("z", []) }?.status == .notFound)
    #expect(store.entry("z") == nil)
    #expect(store.entry("b")?.size == ByteCount(9000))
  }

  // MARK: Staging

  @Test func stagedIsNotCommitted() throws {
    let (store, disk) = try makeStore(items, volumeSize: 65536)
    let before = disk.bytes
    try store.put("a", [9])
    try store.put("b", at: 4090, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    #expect(try store.content("a") == [1, 2, 3])
    #expect(try store.content("a", staged: true) == [9])
    #expect(store.entry("a")?.size == ByteCount(3))
    #expect(try store.content("b") == items[1].content)
    var changed = items
    changed[0].content = [9]
    changed[1].content.replaceSubrange(4090..<4100, with: 1...10)
    #expect(try store.content("b", staged: true) == changed[1].content)
    #expect(disk.bytes == before)
    store.rollBackStaged()
    #expect(try store.content("a", staged: true) == [1, 2, 3])
    try store.commit()
    #expect(disk.bytes == before)
    try store.put("a", [9])
    try store.put("b", at: 4090, Array(1...10))
    try store.commit()
    try check(store, changed)
    try check(BlobStore(PlainVolume(disk)), changed)
  }

  /// A write that fails leaves no trace, and those before and after it go out.
  @Test func failingWriteLeavesTheOthers() throws {
    let (store, disk) = try makeStore(items, volumeSize: 65536)
    try store.put("a", [9, 9])
    let kept = store.stagedSectors
    #expect(thrown { try store.put("b", at: 9999, [1, 2]) }?.code == .tooLarge)
    #expect(thrown { try store.put("b", at: .max, [1, 2]) }?.code == .tooLarge)
    #expect(thrown { try store.put("a", [UInt8](repeating: 1, count: 101)) }?.code == .tooLarge)
    // The third sector of b can't be read, which a write into its midst has to.
    let block = Int(try #require(store.entry("b")).offset.value) / 4096 + 2
    disk.makeUnreadable(block: block)
    let error = thrown { try store.put("b", at: 4000, [UInt8](repeating: 1, count: 4600)) }
    #expect(error?.status == .inputOutput)
    #expect(store.stagedSectors == kept)
    disk.clearFaults()
    let whole = makeDisk(holding: disk.bytes)
    let again = try BlobStore(PlainVolume(whole))
    try again.put("a", [9, 9])
    #expect(thrown { try again.put("b", at: 9999, [1, 2]) } != nil)
    try again.put("c", at: 2, [6])
    try again.commit()
    var changed = items
    changed[0].content = [9, 9]
    changed[2].content = [4, 5, 6]
    try check(again, changed)
  }

  @Test func failedCommit() throws {
    let disk = makeDisk(holding: try makeStore(items, volumeSize: 65536).disk.bytes)
    let store = try BlobStore(PlainVolume(disk))
    disk.inject(.fails(errno: 5), at: .write(1))
    try store.put("c", [1, 1, 1, 1])
    #expect(thrown { try store.commit() }?.status == .inputOutput)
    #expect(store.entry("c")?.size == ByteCount(2))
    #expect(!store.hasStagedWrites)
    #expect(try store.content("c", staged: true) == [4, 5])
    try store.put("c", [1])
    #expect(thrown { try store.commit() } != nil)
  }

  @Test func gapsAreZeros() throws {
    let (store, _) = try makeStore(items, volumeSize: 65536)
    try store.put("c", at: 4500, [1])
    try store.commit()
    var changed = items
    changed[2].content = [4, 5] + [UInt8](repeating: 0, count: 4498) + [1]
    try check(store, changed)
    // What a shorter content no longer uses is zero, so that extending it again shows nothing of the old.
    try store.put("b", [1])
    try store.put("b", at: 8000, [2])
    try store.commit()
    changed[1].content = [1] + [UInt8](repeating: 0, count: 7999) + [2]
    try check(store, changed)
    try store.put("b", [])
    try store.put("b", at: 3, [])
    try store.commit()
    changed[1].content = []
    try check(store, changed)
  }

  /// A page written in place, its size the same, is one sector.
  @Test func sizeOnlyWhenItChanges() throws {
    let page = [UInt8](repeating: 1, count: 4096)
    let (store, disk) = try makeStore([Item(name: "x", capacity: 8192, content: page)], volumeSize: 65536)
    let block = Int(try #require(store.entry("x")).offset.value) / 4096
    disk.makeUnreadable(block: block - 1)
    disk.makeUnreadable(block: block)
    try store.put("x", [UInt8](repeating: 2, count: 4096))
    #expect(store.stagedSectors == 1)
    try store.commit()
  }

  // MARK: Layout

  @Test(arguments: [4096, 16384, 65536]) func addingResizingRemoving(sectorSize: Int) throws {
    let (store, disk) = try makeStore(items, volumeSize: 131072, sectorSize: sectorSize)
    var now = items
    try store.add(Item(name: "d", capacity: 7000).specification)
    now.append(Item(name: "d", capacity: 7000))
    try check(store, now)
    try store.resize("a", capacity: ByteCount(6000))
    now[0].capacity = 6000
    try check(store, now)
    try store.resize("a", capacity: ByteCount(3))
    now[0].capacity = 3
    try check(store, now)
    try store.resize("b", capacity: ByteCount(60000))
    now[1].capacity = 60000
    try check(store, now)
    try store.remove("b")
    now.remove(at: 1)
    try check(store, now)
    try check(BlobStore(volume(on: disk, sectorSize: sectorSize)), now)
    #expect(!disk.bytes.contains(7), "what was removed is gone")
    for name in ["a", "c", "d"] { try store.remove(EntryName(name)) }
    try check(store, [])
  }

  @Test func refusedLayouts() throws {
    let disk = makeDisk(holding: try makeStore(items, volumeSize: 32768).disk.bytes)
    let store = try BlobStore(PlainVolume(disk))
    let before = disk.bytes
    let larger = Item(name: "d", capacity: 40000).specification
    let needed = try BlobStore.size(of: items.map(\.specification) + [larger])
    #expect(thrown { try store.add(larger) }?.code == .noSpace(needed: needed))
    #expect(thrown { try store.add(items[0].specification) }?.code == .exists)
    #expect(thrown { try store.resize("b", capacity: ByteCount(8999)) }?.code == .tooLarge)
    #expect(thrown { try store.resize("b", capacity: ByteCount(0)) }?.status == .noSpace)
    #expect(thrown { try store.resize("c", capacity: ByteCount(0)) }?.status == .noSpace)
    #expect(thrown { try store.resize("z", capacity: ByteCount(1)) }?.code == .noSuchEntry)
    #expect(thrown { try store.remove("z") }?.code == .noSuchEntry)
    disk.inject(.fails(errno: 5), at: .write(1))
    #expect(thrown { try store.remove("a") }?.status == .inputOutput)
    #expect(store.entries.map(\.name) == ["a", "b", "c"])
    #expect(disk.bytes == before)
  }

  // MARK: Anything

  /// Random operations against a plain list of contents.
  @Test(arguments: 1...12) func randomOperations(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    let sectorSize = [4096, 16384, 65536][Int(seed % 3)]
    var items = randomItems(&random, most: 6)
    let (store, disk) = try makeStore(items, volumeSize: 1 << 20, sectorSize: sectorSize)
    var next = 100
    for _ in 0..<25 {
      let index = items.isEmpty ? 0 : Int.random(in: 0..<items.count, using: &random)
      switch items.isEmpty ? 3 : Int.random(in: 0..<6, using: &random) {
      case 0, 1:
        let offset = Int.random(in: 0..<items[index].capacity, using: &random)
        let bytes = random.bytes(Int.random(in: 0...items[index].capacity - offset, using: &random))
        try store.put(EntryName(items[index].name), at: offset, bytes)
        if !bytes.isEmpty {
          var content = items[index].content
          if content.count < offset + bytes.count {
            content += [UInt8](repeating: 0, count: offset + bytes.count - content.count)
          }
          content.replaceSubrange(offset..<offset + bytes.count, with: bytes)
          items[index].content = content
        }
      case 2:
        items[index].content = random.bytes(Int.random(in: 0...items[index].capacity, using: &random))
        if Bool.random(using: &random) {
          try store.put(EntryName(items[index].name), items[index].content)
        } else {
          try store.replace(EntryName(items[index].name), piecewise: items[index].content)
        }
      case 3:
        try store.commit()
        items.append(Item(name: "\(next)", capacity: Int.random(in: 1...9000, using: &random)))
        try store.add(items[items.count - 1].specification)
        next += 1
      case 4:
        try store.commit()
        let size = items[index].content.count
        items[index].capacity = Int.random(in: max(1, size)...max(1, size) + 9000, using: &random)
        try store.resize(EntryName(items[index].name), capacity: ByteCount(items[index].capacity))
      default:
        try store.commit()
        try store.remove(EntryName(items.remove(at: index).name))
      }
    }
    try store.commit()
    try check(store, items)
    try check(BlobStore(volume(on: disk, sectorSize: sectorSize)), items)
  }
}
