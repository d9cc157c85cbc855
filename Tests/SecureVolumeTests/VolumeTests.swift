import BlockIO
import Crypto
import Primitives
import StorageSimulation
import Testing

@testable import SecureVolume

/// The volume as its user sees it, on a disk without faults.
struct VolumeTests {
  static let geometries: [Geometry] = [
    Geometry(blockSize: 4096, sectorCount: 5),
    Geometry(blockSize: 65536, sectorCount: 4),
    Geometry(blockSize: 16384, sectorCount: 9),
    Geometry(blockSize: 4096, sectorCount: 300),
  ].compactMap { $0 }

  @Test(arguments: geometries)
  func keepsWhatIsCommitted(_ geometry: Geometry) throws {
    let disk = SimulatedDisk(size: geometry.imageSize)
    let key = makeKey(1)
    try format(disk, geometry, key: key)
    var expected = Stamps(repeating: 0, count: Int(geometry.sectorCount))
    var random = SeededGenerator(seed: geometry.sectorCount)
    for session in 0..<3 {
      let volume = try open(disk, key)
      #expect(volume.opening.wasClosedCleanly)
      #expect(volume.opening.outdatedHeaderCopy == nil)
      for step in 0..<60 {
        var updates: [Int: UInt64] = [:]
        for _ in 0..<Int.random(in: 1...4, using: &random) {
          updates[Int.random(in: 0..<expected.count, using: &random)] = UInt64(session * 1000 + step + 1)
        }
        try volume.commit(
          changes(geometry.blockSize, updates.sorted { $0.value < $1.value }.map { ($0.key, $0.value) }))
        for (sector, stamp) in updates { expected[sector] = stamp }
        if step % 7 == 0 { while try volume.maintain() {} }
        #expect(try contents(volume) == expected)
      }
      try volume.close()
    }
    let volume = try open(disk, key)
    #expect(try contents(volume) == expected)
    #expect(volume.generation == Generation(180))
    #expect(try volume.check().isEmpty)
  }

  @Test(arguments: geometries)
  func commitsEverySectorAtOnce(_ geometry: Geometry) throws {
    let disk = SimulatedDisk(size: geometry.imageSize)
    let key = makeKey(1)
    try format(disk, geometry, key: key)
    let volume = try open(disk, key)
    for round in 1...6 {
      let all = (0..<Int(geometry.sectorCount)).map { ($0, UInt64(round * 10_000 + $0)) }
      try volume.commit(changes(geometry.blockSize, all.reversed()))
      #expect(try contents(volume) == all.map(\.1))
    }
  }

  @Test func slotsComeAndGo() throws {
    let geometry = Self.geometries[0]
    let disk = SimulatedDisk(size: geometry.imageSize)
    try format(disk, geometry, key: makeKey(1), name: "first")
    let volume = try open(disk, makeKey(1))
    try volume.addSlot(makeKey(2, .recovery), name: "paper", created: 2)
    #expect(throws: VolumeError(.refused, store: "", "")) {
      try volume.addSlot(makeKey(3), name: "paper", created: 3)
    }
    try volume.removeSlot(named: "first")
    #expect(throws: VolumeError(.refused, store: "", "")) { try volume.removeSlot(named: "paper") }
    #expect(throws: VolumeError(.noSuchSlot, store: "", "")) { try volume.removeSlot(named: "first") }
    try volume.close()
    #expect(throws: VolumeError(.wrongKey, store: "", "")) { _ = try open(disk, makeKey(1)) }
    #expect(throws: VolumeError(.wrongKey, store: "", "")) { _ = try open(disk, makeKey(2)) }
    #expect(try open(disk, makeKey(2, .recovery)).slots.map(\.name) == ["paper"])
  }

  @Test func scrubLeavesNoOldCiphertext() throws {
    let geometry = Self.geometries[0]
    let disk = SimulatedDisk(size: geometry.imageSize)
    try format(disk, geometry, key: makeKey(1))
    let volume = try open(disk, makeKey(1))
    try volume.commit(changes(4096, [(2, 77)]))
    try volume.scrub()
    let ring = disk.bytes[Int(geometry.ringOffset)..<Int(geometry.leafOffset)]
    #expect(ring.allSatisfy { $0 == 0 })
    #expect(try contents(volume) == [0, 0, 77, 0, 0])
    try volume.commit(changes(4096, [(1, 78)]))
    try volume.close()
    #expect(try contents(open(disk, makeKey(1))) == [0, 78, 77, 0, 0])
  }

  /// The same content written twice to the same place leaves no equal 16-byte block anywhere in the image.
  @Test func rewritingTheSameContentRepeatsNoBlock() throws {
    let geometry = Self.geometries[0]
    let disk = SimulatedDisk(size: geometry.imageSize)
    try format(disk, geometry, key: makeKey(1))
    let volume = try open(disk, makeKey(1))
    for _ in 0..<20 { try volume.commit(changes(4096, [(2, 77)])) }
    // Before the checkpoint that copies the last version in place, byte for byte.
    let image = disk.bytes
    var seen: Set<[UInt8]> = []
    var repeated = 0
    for start in stride(from: Int(geometry.ringOffset), to: image.count, by: 8) where start + 16 <= image.count {
      let block = Array(image[start..<start + 16])
      if block.allSatisfy({ $0 == 0 }) || block[0..<8].allSatisfy({ $0 == 0 }) || block[8...].allSatisfy({ $0 == 0 }) {
        continue
      }
      // Record headers repeat their magic and epoch; payloads must not repeat anything.
      if isRecordHeader(image, start) { continue }
      if !seen.insert(block).inserted { repeated += 1 }
    }
    #expect(repeated == 0)
  }

  /// Whether a 16-byte block lies in the fixed part of a record: the first 200 bytes of a block with the magic.
  private func isRecordHeader(_ image: [UInt8], _ start: Int) -> Bool {
    let block = start / 4096 * 4096
    return start - block < 200 && Array(image[block..<block + 8]) == Format.recordMagic
  }
}
