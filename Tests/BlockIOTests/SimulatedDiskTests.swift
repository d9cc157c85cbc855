import Glibc
import Primitives
import StorageSimulation
import Testing

@testable import BlockIO

private func block(_ byte: UInt8) -> [UInt8] { [UInt8](repeating: byte, count: 4096) }

/// The simulation itself: every fault shows, and nothing else does.
@Suite struct SimulatedDiskTests {
  let disk = SimulatedDisk(size: ByteCount(16 * 4096))

  @Test func readsWhatWasWritten() throws {
    var generator = SeededGenerator(seed: 2)
    var expected = [UInt8](repeating: 0, count: 16 * 4096)
    for i in 0..<60 {
      let count = Int.random(in: 0...20_000, using: &generator)
      let offset = Int.random(in: 0...(expected.count - count), using: &generator)
      let bytes = generator.bytes(count)
      expected.replaceSubrange(offset..<offset + count, with: bytes)
      try disk.put(bytes, at: UInt64(offset))
      if i % 7 == 0 { try disk.sync() }
      let back = try disk.bytes(UInt64(offset), count)
      #expect(difference(back, bytes) == nil)
    }
    #expect(difference(disk.bytes, expected) == nil)
    try disk.sync()
    #expect(difference(disk.durableBytes, expected) == nil)
    #expect(disk.pendingBlocks.isEmpty)
  }

  @Test func sizeIsKept() throws {
    let odd = SimulatedDisk(copyOf: [UInt8](repeating: 9, count: 5000))
    #expect(odd.size == ByteCount(5000))
    #expect(difference(odd.bytes, [UInt8](repeating: 9, count: 5000)) == nil)
    for (offset, count) in [(UInt64(5000), 1), (4999, 2), (UInt64.max, 1), (5001, 0)] {
      #expect(code { try odd.bytes(offset, count) } == .truncated)
      #expect(code { try odd.put([UInt8](repeating: 1, count: count), at: offset) } == .noSpace)
    }
    #expect(odd.operations == 0)
    odd.resize(to: ByteCount(100))
    #expect(difference(odd.bytes, [UInt8](repeating: 9, count: 100)) == nil)
    #expect(code { try odd.bytes(0, 101) } == .truncated)
    odd.resize(to: ByteCount(5000))
    #expect(difference(odd.bytes, [UInt8](repeating: 9, count: 100) + [UInt8](repeating: 0, count: 4900)) == nil)
    let fixed = SimulatedDisk(copyOf: [1], isWritable: false)
    #expect(code { try fixed.put([2], at: 0) } == .readOnly)
  }

  @Test func powerGoes() throws {
    disk.cutPower(afterOperation: 2)
    try disk.put(block(1), at: 0)
    try disk.sync()
    #expect(!disk.hasPower)
    let off = BlockError.Code.inputOutput(errno: EIO)
    #expect(code { try disk.put(block(2), at: 0) } == off)
    #expect(code { try disk.sync() } == off)
    #expect(code { try disk.bytes(0, 1) } == off)
    #expect(disk.operations == 2)
    #expect(difference(disk.imageAfterPowerCut(seed: 0), disk.durableBytes) == nil)
    var generator = SeededGenerator(seed: 0)
    let again = disk.crashed(using: &generator)
    let bytes = try again.bytes(0, 4096)
    #expect(difference(bytes, block(1)) == nil)

    let unborn = SimulatedDisk(size: ByteCount(4096))
    unborn.cutPower(afterOperation: 0)
    #expect(code { try unborn.sync() } == off)
  }

  @Test func failedWriteHasNoEffect() throws {
    disk.inject(.fails(errno: ENOSPC), at: .write(2))
    try disk.put(block(1), at: 0)
    #expect(code { try disk.put(block(2), at: 0) } == .noSpace)
    try disk.put(block(3), at: 4096)
    let expected: [UInt8] = block(1) + block(3)
    #expect(difference(Array(disk.bytes.prefix(8192)), expected) == nil)
    #expect(disk.operations == 3)
    #expect(disk.logText() == "1: write 4096 at 0\n2: write 4096 at 0 (failed)\n3: write 4096 at 4096")
  }

  @Test func failedWriteMayLandLater() throws {
    disk.inject(.failsLandsLater(errno: EIO), at: .write(1))
    #expect(code { try disk.put(block(1), at: 0) } == .inputOutput(errno: EIO))
    try disk.sync()
    let now = try disk.bytes(0, 4096)
    #expect(difference(now, block(0)) == nil)
    var generator = SeededGenerator(seed: 1)
    #expect(disk.crashed(.everything, using: &generator).byte(at: 0) == 1)
    #expect(disk.crashed(.nothing, using: &generator).byte(at: 0) == 0)
    // Written and synced anew, it is certain again.
    try disk.put(block(2), at: 0)
    try disk.sync()
    #expect(disk.pendingBlocks.isEmpty)
    #expect(disk.crashed(.everything, using: &generator).byte(at: 0) == 2)
  }

  @Test func failedInTheMiddle() throws {
    disk.inject(.failsAfter(bytes: 5000, errno: ENOSPC), at: .operation(1))
    #expect(code { try disk.put(block(1) + block(2), at: 0) } == .noSpace)
    let bytes = try disk.bytes(0, 8192)
    #expect(difference(bytes, block(1) + [UInt8](repeating: 2, count: 904) + [UInt8](repeating: 0, count: 3192)) == nil)
  }

  /// What Linux does: the pages are clean after the error, and the next sync has nothing to write.
  @Test func failedSyncHasLostItsWrites() throws {
    disk.inject(.fails(errno: EIO), at: .sync(1))
    try disk.put(block(1), at: 0)
    #expect(code { try disk.sync() } == .inputOutput(errno: EIO))
    let read = try disk.bytes(0, 4096)
    #expect(difference(read, block(1)) == nil)
    try disk.put(block(2), at: 4096)
    try disk.sync()
    #expect(disk.pendingBlocks == [0])
    var generator = SeededGenerator(seed: 3)
    let nothing = disk.crashed(.nothing, using: &generator)
    #expect([nothing.byte(at: 0), nothing.byte(at: 4096)] == [0, 2])
    #expect(disk.crashed(.everything, using: &generator).byte(at: 0) == 1)
    try disk.put(block(1), at: 0)
    try disk.sync()
    #expect(disk.crashed(.nothing, using: &generator).byte(at: 0) == 1)
  }

  @Test func lyingDisk() throws {
    disk.inject(.lost, at: .write(1))
    disk.inject(.lost, at: .sync(2))
    try disk.put(block(1), at: 0)
    try disk.sync()
    #expect(difference(disk.bytes, [UInt8](repeating: 0, count: 65536)) == nil)
    try disk.put(block(2), at: 0)
    try disk.sync()
    #expect(disk.pendingBlocks == [0])
    try disk.sync()
    #expect(disk.pendingBlocks == [])
  }

  @Test func misdirectedWrite() throws {
    disk.inject(.misdirected(to: ByteOffset(8192)), at: .write(1))
    try disk.put(block(1), at: 0)
    try disk.sync()
    let expected: [UInt8] = block(0) + block(0) + block(1)
    #expect(difference(Array(disk.durableBytes.prefix(12288)), expected) == nil)
  }

  @Test func readErrors() throws {
    disk.inject(.fails(errno: EIO), at: .read(2))
    disk.makeUnreadable(block: 3)
    _ = try disk.bytes(0, 4096)
    #expect(code { try disk.bytes(0, 4096) } == .inputOutput(errno: EIO))
    _ = try disk.bytes(0, 12288)
    #expect(code { try disk.bytes(0, 12289) } == .inputOutput(errno: EIO))
    #expect(code { try disk.bytes(16383, 1) } == .inputOutput(errno: EIO))
    _ = try disk.bytes(16384, 1)
    disk.clearFaults()
    _ = try disk.bytes(0, 65536)
  }

  @Test func rot() throws {
    disk.flip(bit: 8 * 4097 + 3)
    var expected = [UInt8](repeating: 0, count: 65536)
    expected[4097] = 8
    #expect(difference(disk.bytes, expected) == nil)
    #expect(difference(disk.durableBytes, expected) == nil)
    disk.flip(bit: 8 * 4097 + 3)
    disk.overwrite(ByteOffset(4095), with: [1, 2])
    expected.replaceSubrange(4095..<4098, with: [1, 2, 0])
    #expect(difference(disk.bytes, expected) == nil)
  }

  @Test func snapshotsAreApart() throws {
    try disk.put(block(1), at: 0)
    disk.inject(.fails(errno: EIO), at: .write(2))
    let copy = disk.snapshot()
    try copy.sync()
    #expect(code { try copy.put(block(2), at: 0) } == .inputOutput(errno: EIO))
    try copy.put(block(3), at: 0)
    #expect(disk.pendingBlocks == [0])
    #expect(disk.byte(at: 0) == 1)
    #expect(copy.byte(at: 0) == 3)
    #expect([disk.operations, copy.operations] == [1, 4])
  }

  @Test func everyOperationIsSeen() throws {
    var seen: [Int] = []
    disk.inject(.fails(errno: EIO), at: .write(2))
    disk.afterOperation = { seen.append($0) }
    try disk.put(block(1), at: 0)
    _ = code { try disk.put(block(1), at: 0) }
    try disk.sync()
    #expect(seen == [1, 2, 3])
    #expect([disk.writes, disk.syncs] == [2, 1])
  }
}
