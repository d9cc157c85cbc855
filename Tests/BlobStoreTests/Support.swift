// What the tests of this target share: a second way to make streams, and stores on a simulated disk.
import BlockIO
import Primitives
import SecureVolume
import StorageSimulation

@testable import BlobStore

/// An element, made the plain way.
func der(_ tag: UInt8, _ content: [UInt8]) -> [UInt8] {
  var length: [UInt8] = []
  var rest = content.count
  repeat {
    length.insert(UInt8(rest & 0xFF), at: 0)
    rest >>= 8
  } while rest > 0
  return [tag] + (content.count < 128 ? length : [0x80 | UInt8(length.count)] + length) + content
}

/// What a test puts into a stream.
struct Item {
  var name: String
  var capacity: Int
  var content: [UInt8] = []

  var specification: EntrySpecification {
    EntrySpecification(name: EntryName(stringLiteral: name), capacity: ByteCount(capacity))
  }
}

/// The stream of these entries, by trying every padding from the shortest on (FORMAT §8). Shares nothing with the
/// program but the rule.
func makeStream(_ items: [Item]) -> [UInt8] {
  for skipped in 0..<8 {
    for headerSize in 2...7 {
      var body = der(0x0C, Array("qemu-nvram".utf8))
      var toSkip = skipped
      for item in items {
        body += makeEntry(item, at: headerSize + body.count, skipping: item.capacity >= 4096 ? toSkip : 0)
        if item.capacity >= 4096 { toSkip = 0 }
      }
      let stream = der(0x30, body)
      if stream.count - body.count == headerSize { return stream }
    }
  }
  fatalError("no header size fits")
}

private func makeEntry(_ item: Item, at offset: Int, skipping: Int) -> [UInt8] {
  let size = (0..<8).map { UInt8(truncatingIfNeeded: item.content.count >> (8 * (7 - $0))) }
  let content = der(0x04, item.content + [UInt8](repeating: 0, count: item.capacity - item.content.count))
  let name = der(0x0C, Array(item.name.utf8))
  func entry(_ padding: [UInt8]) -> [UInt8] { der(0x30, name + der(0x30, der(0x04, size) + padding + content)) }
  if item.capacity < 4096 { return entry([]) }
  var toSkip = skipping
  // -1 stands for no padding at all.
  for zeros in -1..<65536 {
    // The length is enough to tell whether it fits; only then is it made.
    let blob = 10 + (zeros < 0 ? 0 : headerSize(zeros) + zeros) + content.count
    let inner = name.count + headerSize(blob) + blob
    let start = offset + headerSize(inner) + inner - item.capacity
    if start % 4096 == 0 {
      if toSkip == 0 { return entry(zeros < 0 ? [] : der(0x80, [UInt8](repeating: 0, count: zeros))) }
      toSkip -= 1
    }
  }
  fatalError("no padding fits")
}

private func headerSize(_ length: Int) -> Int {
  length < 128 ? 2 : length < 256 ? 3 : length < 65536 ? 4 : length < 1 << 24 ? 5 : 6
}

/// A plain volume on a simulated disk.
func makeVolume(_ size: Int, sectorSize: Int = 4096) -> (volume: any SectorVolume, disk: SimulatedDisk) {
  let disk = SimulatedDisk(size: ByteCount(size))
  return (volume(on: disk, sectorSize: sectorSize), disk)
}

/// A disk that holds `bytes`, then zeros.
func makeDisk(holding bytes: [UInt8], size: Int? = nil) -> SimulatedDisk {
  let disk = SimulatedDisk(size: ByteCount(size ?? bytes.count))
  disk.overwrite(ByteOffset(0), with: bytes)
  return disk
}

/// A store with these entries, their contents committed.
func makeStore(
  _ items: [Item], volumeSize: Int, sectorSize: Int = 4096
) throws -> (store: BlobStore, disk: SimulatedDisk) {
  let (volume, disk) = makeVolume(volumeSize, sectorSize: sectorSize)
  try BlobStore.initialise(volume, entries: items.map(\.specification))
  let store = try BlobStore(volume)
  for item in items { try store.put(EntryName(item.name), item.content) }
  try store.commit()
  return (store, disk)
}

extension BlobStore {
  func content(_ name: EntryName, staged: Bool = false) throws -> [UInt8] {
    try read(name, limit: 1 << 24, staged: staged)
  }

  func put(_ name: EntryName, _ content: [UInt8]) throws { try stageReplace(name, content.span) }

  /// Replaces all of it piece by piece.
  @discardableResult
  func replace(_ name: EntryName, piecewise content: [UInt8]) throws -> ByteCount {
    var done = 0
    return try stageReplace(name) { (destination) throws in
      var piece = destination
      let count = min(piece.count, content.count - done)
      piece.copy(from: content.span.extracting(done..<done + count))
      done += count
      return count
    }
  }

  func put(_ name: EntryName, at offset: Int, _ bytes: [UInt8]) throws {
    try stage(name, at: ByteOffset(offset), bytes.span)
  }

  func dumped() throws -> [UInt8] {
    var bytes: [UInt8] = []
    try dump { piece in bytes += piece.array }
    return bytes
  }
}

/// Entries of random shape: sizes near the edges of headers and pages as often as any other.
func randomItems(_ random: inout SeededGenerator, most: Int = 8) -> [Item] {
  let edges = [1, 120, 127, 128, 255, 256, 3900, 4095, 4096, 4097, 8192, 65400, 65535, 65536]
  return (0..<Int.random(in: 0...most, using: &random)).map { index in
    let capacity =
      Bool.random(using: &random)
      ? Int.random(in: 1...20000, using: &random)
      : max(1, (edges.randomElement(using: &random) ?? 1) + Int.random(in: -20...5, using: &random))
    let count = Bool.random(using: &random) ? Int.random(in: 0...capacity, using: &random) : 0
    let name = "\(index)" + String(repeating: "é", count: Int.random(in: 0...58, using: &random))
    return Item(name: name, capacity: capacity, content: random.bytes(count))
  }
}

/// The error that `body` throws, or `nil`.
func thrown(_ body: () throws -> Void) -> BlobStoreError? {
  do {
    try body()
    return nil
  } catch { return error as? BlobStoreError }
}
