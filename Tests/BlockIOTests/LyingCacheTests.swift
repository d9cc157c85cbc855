import Glibc
import Primitives
import StorageSimulation
import Testing

@testable import BlockIO

/// Caches that show what a failed sync has lost, the page cache and the device's own: all of it looks written to who
/// reads, and is gone when power goes.
@Suite struct LyingCacheTests {
  static let sizes = [4096, 8192, 16384, 32768, 65536]

  private func bytes(_ byte: UInt8, _ count: Int) -> [UInt8] { [UInt8](repeating: byte, count: count) }

  /// Four blocks of 1, durable; then block 1 written with 2, and the sync of it lost.
  private func lied(_ size: Int) throws -> SimulatedDisk {
    let disk = SimulatedDisk(copyOf: bytes(1, 4 * size), blockSize: size)
    try disk.put(bytes(2, size), at: UInt64(size))
    disk.inject(.fails(errno: EIO), at: .sync(1))
    #expect(code { try disk.sync() } == .inputOutput(errno: EIO))
    return disk
  }

  /// Whether a cut by which nothing landed leaves this of a block, and one by which all did that.
  private func cut(_ disk: SimulatedDisk, _ block: Int, leaves nothing: [UInt8], or everything: [UInt8]) -> Bool {
    var generator = SeededGenerator(seed: 1)
    let range = block * disk.blockSize..<(block + 1) * disk.blockSize
    return [(PowerCut.nothing, nothing), (.everything, everything)].allSatisfy { cut, bytes in
      Array(disk.crashed(cut, using: &generator).bytes[range]) == bytes
    }
  }

  private func shown(_ disk: SimulatedDisk, _ block: Int) throws -> [UInt8] {
    let offset = UInt64(block * disk.blockSize)
    var past = bytes(0, disk.blockSize)
    try disk.readPastCache(at: ByteOffset(offset), into: past.mutableSpan)
    let plain = try disk.bytes(offset, disk.blockSize)
    #expect(difference(past, plain) == nil, "one read knows more than the other")
    return plain
  }

  /// Whatever is written and synced elsewhere, by whomever.
  @Test(arguments: sizes) func goesOnShowingWhatIsLost(size: Int) throws {
    let disk = try lied(size)
    for round in 0..<3 {
      #expect(difference(try shown(disk, 1), bytes(2, size)) == nil)
      #expect(disk.pendingBlocks == [1])
      #expect(cut(disk, 1, leaves: bytes(1, size), or: bytes(2, size)))
      try disk.put(bytes(3, size), at: UInt64((round + 1) % 4 == 1 ? 0 : 2 * size))
      try disk.sync()
    }
    #expect(cut(disk, 2, leaves: bytes(3, size), or: bytes(3, size)))
  }

  @Test(arguments: sizes) func writtenAnewItIsDurable(size: Int) throws {
    let disk = try lied(size)
    // The same bytes, too, for who would skip what a read shows already.
    try disk.put(bytes(2, size), at: UInt64(size))
    #expect(disk.pendingBlocks == [1])
    try disk.sync()
    #expect(disk.pendingBlocks == [])
    #expect(cut(disk, 1, leaves: bytes(2, size), or: bytes(2, size)))
  }

  /// Only pages that are written anew are dirty: the others of a block stay lost.
  @Test(arguments: sizes.dropFirst()) func writtenAnewInPart(size: Int) throws {
    let disk = try lied(size)
    try disk.put([3], at: UInt64(2 * size - 1))
    try disk.sync()
    #expect(disk.pendingBlocks == [1])
    let page: [UInt8] = bytes(2, 4095) + [3]
    #expect(cut(disk, 1, leaves: bytes(1, size - 4096) + page, or: bytes(2, size - 4096) + page))
    var generator = SeededGenerator(seed: 1)
    var isGarbage = false
    for _ in 0..<20 {
      let block = disk.crashed(.garbage, using: &generator).bytes[size..<2 * size]
      #expect(difference(Array(block.suffix(4096)), page) == nil)
      if !block.prefix(size - 4096).allSatisfy({ (1...2).contains($0) }) { isGarbage = true }
    }
    #expect(isGarbage)
    // In several writes it becomes certain, too.
    try disk.put(bytes(3, size - 4096), at: UInt64(size))
    try disk.sync()
    #expect(disk.pendingBlocks == [])
    let all = bytes(3, size - 4096) + page
    #expect(cut(disk, 1, leaves: all, or: all))
  }

  /// A sync that fails may have torn all of a block of which one page was written.
  @Test func cleanPagesOfATornBlock() throws {
    let disk = SimulatedDisk(copyOf: bytes(1, 65536), blockSize: 16384)
    try disk.put(bytes(2, 4096), at: 0)
    disk.inject(.fails(errno: EIO), at: .sync(1))
    #expect(code { try disk.sync() } != nil)
    try disk.put(bytes(2, 4096), at: 0)
    try disk.sync()
    #expect(disk.pendingBlocks == [0])
    var generator = SeededGenerator(seed: 1)
    let isTorn = (0..<20).contains { _ in
      disk.crashed(.garbage, using: &generator).bytes[4096..<16384].contains { $0 != 1 }
    }
    #expect(isTorn)
  }

  /// A write that reported an error may land after one that succeeded before it was synced.
  @Test func aLateWriteOutlastsASync() throws {
    let disk = SimulatedDisk(copyOf: bytes(1, 8192))
    try disk.put(bytes(2, 4096), at: 0)
    disk.inject(.failsLandsLater(errno: EIO), at: .write(2))
    #expect(code { try disk.put(bytes(3, 4096), at: 0) } != nil)
    try disk.sync()
    #expect(disk.pendingBlocks == [0])
    #expect(cut(disk, 0, leaves: bytes(2, 4096), or: bytes(3, 4096)))
    var generator = SeededGenerator(seed: 1)
    for _ in 0..<50 { #expect(disk.crashed(.oldOrNew, using: &generator).byte(at: 0) != 1) }
  }

  /// The process that met the error is gone; the caches are not.
  @Test(arguments: sizes) func anotherProcessOpensIt(size: Int) throws {
    let disk = try lied(size)
    let next = disk.opened()
    #expect(difference(try shown(next, 1), bytes(2, size)) == nil)
    // It learns of no error.
    try next.sync()
    #expect(next.pendingBlocks == [1])
    #expect(cut(next, 1, leaves: bytes(1, size), or: bytes(2, size)))
    let reader = disk.opened(isWritable: false)
    #expect(code { try reader.put([1], at: 0) } == .readOnly)
    #expect(difference(try shown(reader, 1), bytes(2, size)) == nil)
    // One disk: what one writes the other reads, and one's cut is the other's.
    try next.put(bytes(4, size), at: UInt64(size))
    try next.sync()
    #expect(disk.pendingBlocks == [])
    #expect(difference(try shown(disk, 1), bytes(4, size)) == nil)
    #expect(disk.operations == next.operations)
    next.cutPower(afterOperation: next.operations)
    #expect(!disk.hasPower && code { try disk.sync() } != nil)
    // A snapshot is another disk.
    let copy = disk.snapshot()
    copy.overwrite(ByteOffset(0), with: [9])
    #expect(disk.byte(at: 0) == 1)
  }

  @Test(arguments: sizes) func deterministic(size: Int) throws {
    let (a, b) = (try lied(size), try lied(size))
    for disk in [a, b] {
      try disk.put([5], at: UInt64(size))
      try disk.put(bytes(6, 2 * size), at: UInt64(2 * size))
    }
    for seed in 0..<UInt64(30) {
      let isSame = a.imageAfterPowerCut(seed: seed) == b.imageAfterPowerCut(seed: seed)
      #expect(isSame)
    }
  }
}
