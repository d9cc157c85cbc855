import Primitives
import StorageSimulation
import Testing

@testable import BlockIO

private func block(_ byte: UInt8) -> [UInt8] { [UInt8](repeating: byte, count: 4096) }

@Suite struct PowerCutTests {
  /// Blocks 0 and 1 durable with 1; then block 0 written with 2, and 3; block 1 with 4. Block 2 is never touched.
  private func pending() throws -> SimulatedDisk {
    let disk = SimulatedDisk(size: ByteCount(4 * 4096))
    try disk.put(block(1) + block(1), at: 0)
    try disk.sync()
    try disk.put(block(2), at: 0)
    try disk.put(block(3), at: 0)
    try disk.put(block(4), at: 4096)
    return disk
  }

  private func firstBytes(_ disk: SimulatedDisk) -> [UInt8] { [0, 4096, 8192].map { disk.byte(at: $0) } }

  static let extremes: [(PowerCut, [UInt8])] = [
    (.nothing, [1, 1, 0]), (.everything, [3, 4, 0]), (.onlyLast, [1, 4, 0]), (.allButLast, [3, 1, 0]),
  ]

  @Test(arguments: extremes) func extremeOutcomes(cut: PowerCut, expected: [UInt8]) throws {
    var generator = SeededGenerator(seed: 0)
    let crashed = try pending().crashed(cut, using: &generator)
    #expect(firstBytes(crashed) == expected)
    #expect(difference(crashed.bytes, crashed.durableBytes) == nil)
    #expect(crashed.pendingBlocks.isEmpty)
    #expect(crashed.operations == 0)
  }

  @Test func everyCombinationOccurs() throws {
    let disk = try pending()
    var generator = SeededGenerator(seed: 0)
    var seen: Set<[UInt8]> = []
    var torn = 0
    for _ in 0..<200 {
      let crashed = disk.crashed(.oldOrNew, using: &generator)
      let bytes = crashed.bytes
      for i in 0..<4 where Set(bytes[i * 4096..<(i + 1) * 4096]).count != 1 { torn += 1 }
      seen.insert(firstBytes(crashed))
    }
    #expect(torn == 0)
    #expect(seen == [[1, 1, 0], [2, 1, 0], [3, 1, 0], [1, 4, 0], [2, 4, 0], [3, 4, 0]])
  }

  /// Old, new, between, noise, torn at a sector, torn elsewhere; never anything in a block that was not being written.
  @Test func everyShapeOccurs() throws {
    let disk = try pending()
    var generator = SeededGenerator(seed: 7)
    var shapes: Set<String> = []
    var untouched = true
    for _ in 0..<1000 {
      let bytes = disk.crashed(using: &generator).bytes
      if !bytes.span.extracting(8192..<16384).isZero { untouched = false }
      shapes.insert(shape([UInt8](bytes.prefix(4096))))
    }
    #expect(untouched)
    #expect(
      shapes == [
        "all 0", "all 1", "all 2", "all 3", "all 255", "torn by sector", "torn anywhere", "flipped bit", "noise",
      ])
  }

  private func shape(_ block: [UInt8]) -> String {
    let edges = (1..<4096).filter { block[$0] != block[$0 - 1] }
    if edges.isEmpty { return "all \(block[0])" }
    if edges.count > 8 { return "noise" }
    if block.allSatisfy({ (1...3).contains($0) }) {
      if edges.allSatisfy({ $0 % 512 == 0 }) { return "torn by sector" }
      if edges.count == 1 { return "torn anywhere" }
    }
    return "flipped bit"
  }

  @Test func deterministic() throws {
    let (a, b) = (try pending(), try pending())
    var distinct: Set<[UInt8]> = []
    for seed in 0..<UInt64(50) {
      let image = a.imageAfterPowerCut(seed: seed)
      let same = image == b.imageAfterPowerCut(seed: seed)
      #expect(same)
      distinct.insert(image)
    }
    #expect(distinct.count > 10)
  }

  /// A byte that is written puts all of its block at risk, and nothing else.
  @Test(arguments: [4096, 8192, 16384, 32768, 65536]) func aBlockFallsAsAWhole(size: Int) throws {
    let disk = SimulatedDisk(size: ByteCount(4 * size), blockSize: size)
    #expect(disk.blockSize == size)
    try disk.put([7], at: UInt64(size + size / 3))
    #expect(disk.pendingBlocks == [1])
    var generator = SeededGenerator(seed: 1)
    var (first, last) = (Int.max, 0)
    for _ in 0..<50 {
      let bytes = disk.crashed(.garbage, using: &generator).bytes
      first = min(first, bytes.firstIndex { $0 != 0 } ?? first)
      last = max(last, bytes.lastIndex { $0 != 0 } ?? last)
    }
    #expect(first == size)
    #expect(last == 2 * size - 1)
  }

  @Test func theCrashedDiskIsADisk() throws {
    let disk = try pending()
    var generator = SeededGenerator(seed: 1)
    let crashed = disk.crashed(.everything, using: &generator)
    try crashed.put(block(9), at: 0)
    #expect(crashed.pendingBlocks == [0])
    #expect(disk.byte(at: 0) == 3)
    let twice = crashed.crashed(.nothing, using: &generator)
    #expect(firstBytes(twice) == [3, 4, 0])
  }

  /// Numbers of the authors' reference implementation for seed 1234567.
  @Test func generator() {
    var generator = SeededGenerator(seed: 1_234_567)
    let numbers = (0..<3).map { _ in generator.next() }
    #expect(numbers == [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423])
  }
}
