import BlockIO
import Crypto
import Glibc
import Primitives
import StorageSimulation
import Testing

@testable import SecureVolume

/// Recovery believes no read of the last record (FORMAT §7): it appends it anew, and counts it from there.
struct RecoveryTests {
  static let geometries: [Geometry] = [
    Geometry(blockSize: 4096, sectorCount: 12), Geometry(blockSize: 16384, sectorCount: 5),
    Geometry(blockSize: 65536, sectorCount: 3),
  ].compactMap { $0 }

  private func make(_ geometry: Geometry) throws -> SimulatedDisk {
    let disk = SimulatedDisk(size: geometry.imageSize, blockSize: geometry.blockSize)
    try format(disk, geometry, key: makeKey(1))
    return disk
  }

  private func left(_ disk: SimulatedDisk, _ geometry: Geometry) -> [SimulatedDisk] {
    var random = SeededGenerator(seed: UInt64(disk.operations))
    // Nothing that wasn't synced is there, all of it is, and any of it.
    return [
      SimulatedDisk(copyOf: disk.durableBytes, blockSize: geometry.blockSize),
      SimulatedDisk(copyOf: disk.bytes, blockSize: geometry.blockSize),
    ] + (0..<20).map { _ in disk.crashed(using: &random) }
  }

  /// A sync fails, and what it was to make durable stays in a cache that every later read shows. The process goes;
  /// the next opening sees that record, whole, and goes on from it. Then power goes: nothing of what was served since
  /// is lost.
  @Test(arguments: geometries, 0..<4)
  func aSyncFailsAndTheCacheShowsWhatTheDeviceNeverHad(_ geometry: Geometry, _ before: Int) throws {
    let disk = try make(geometry)
    let volume = try open(disk, makeKey(1))
    for step in 0..<before { try volume.commit(changes(geometry.blockSize, [(step % 3, UInt64(step + 1))])) }
    let acknowledged = try contents(volume)
    disk.inject(.fails(errno: EIO), at: .sync(disk.syncs + 1))
    #expect(throws: VolumeError.self) { try volume.commit(changes(geometry.blockSize, [(0, 77), (2, 78)])) }
    var requested = acknowledged
    (requested[0], requested[2]) = (77, 78)
    // Power may go at any moment of what follows.
    var moments = 0
    var served: [[UInt64?]] = [acknowledged, requested]
    disk.afterOperation = { operation in
      for left in left(disk, geometry) {
        moments += 1
        do {
          let found = try contents(open(left, makeKey(1)))
          #expect(served.contains(found), "after operation \(operation)")
        } catch { Issue.record(error, "after operation \(operation)") }
      }
    }
    let next = try open(disk, makeKey(1))
    let found = try contents(next)
    #expect(found == requested, "the cache shows it")
    served = [found]
    var after = found
    after[1] = 99
    served.append(after)
    try next.commit(changes(geometry.blockSize, [(1, 99)]))
    served = [after]
    try next.startCheckpoint()
    try next.finishCheckpoint()
    try next.close()
    disk.afterOperation = nil
    #expect(moments > 100)
    for left in left(disk, geometry) { #expect(try contents(open(left, makeKey(1))) == after) }
  }

  private func number(_ bytes: [UInt8], _ offset: Int, _ count: Int = 8) -> UInt64 {
    (0..<count).reduce(0) { $0 | UInt64(bytes[offset + $1]) << UInt64(8 * $1) }
  }

  /// After the opening of a cut image the ring has the last record twice, and both headers begin with the second.
  @Test(arguments: geometries)
  func theLastRecordIsThereTwice(_ geometry: Geometry) throws {
    let disk = try make(geometry)
    let volume = try open(disk, makeKey(1))
    var starts: [Int] = []
    for step in 1...3 {
      starts.append(Place.ring + Int(volume.journal.head.position))
      try volume.commit(changes(geometry.blockSize, [(0, UInt64(step)), (2, UInt64(step))]))
    }
    let before = disk.bytes
    let again = try open(disk, makeKey(1))
    #expect(again.generation == Generation(3) && again.opening.recordsReplayed == 3)
    #expect(try contents(again).prefix(3) == [3, 0, 3])
    let bytes = disk.bytes
    let size = Int(geometry.recordSize(2))
    let (old, new) = (starts[2], starts[2] + size)
    #expect(bytes[old..<new] == before[old..<new], "the record itself isn't touched")
    #expect(number(bytes, old + 16) == 3 && number(bytes, new + 16) == 4)
    #expect(number(bytes, old + 24) == 3 && number(bytes, new + 24) == 3)
    #expect(bytes[old + 32..<old + 48] != bytes[new + 32..<new + 48], "a new epoch")
    #expect(bytes[old + 48..<old + 80] == bytes[new + 48..<new + 80], "after the same record")
    #expect(bytes[old + 128..<old + 208] == bytes[new + 128..<new + 208])
    #expect(bytes[old + geometry.blockSize..<new] == bytes[new + geometry.blockSize..<new + size])
    for header in Place.headers.map(\.lowerBound) {
      #expect(Int(number(bytes, header + 168)) + Place.ring == new && number(bytes, header + 176) == 4)
      #expect(number(bytes, header + 144) == 2 && number(bytes, header + 132, 4) == 0)
      #expect(bytes[header + 152..<header + 168] == bytes[new + 32..<new + 48])
    }
  }

  /// Opened again and again, and never closed: the ring doesn't fill, and goes round; nothing changes.
  @Test(arguments: geometries, [1, 2])
  func twoHundredCrashes(_ geometry: Geometry, _ sectors: Int) throws {
    let disk = try make(geometry)
    let volume = try open(disk, makeKey(1))
    try volume.commit(changes(geometry.blockSize, (0..<sectors).map { ($0, UInt64($0 + 7)) }))
    let content = try contents(volume)
    var rounds = 0
    var position: UInt64 = 0
    for _ in 0..<200 {
      let again = try open(disk, makeKey(1))
      #expect(again.generation == Generation(1) && again.opening.recordsReplayed == 1)
      #expect(again.journal.used == geometry.recordSize(sectors))
      if again.header.cursor.position < position { rounds += 1 }
      position = again.header.cursor.position
    }
    #expect(rounds >= 5)
    let last = try open(SimulatedDisk(copyOf: disk.durableBytes, blockSize: geometry.blockSize), makeKey(1))
    #expect(try contents(last) == content && last.check().allSatisfy { $0.severity == .notice })
    #expect(last.header.lineage.entries.count == 64)
    try last.commit(changes(geometry.blockSize, [(0, 8)]))
    try last.close()
  }

  /// Records of half the ring, one after the other, each cut and recovered.
  @Test(arguments: [(4096, 300), (65536, 40)])
  func aLastRecordOfHalfTheRing(_ blockSize: Int, _ count: Int) throws {
    let geometry = try #require(Geometry(blockSize: blockSize, sectorCount: UInt64(count)))
    #expect(geometry.ringSize == 2 * geometry.recordSize(count))
    let disk = try make(geometry)
    var volume = try open(disk, makeKey(1))
    for round in 1...4 {
      let all = (0..<count).map { ($0, UInt64(round * 10_000 + $0)) }
      try volume.commit(changes(blockSize, all))
      volume = try open(SimulatedDisk(copyOf: disk.durableBytes), makeKey(1))
      #expect(try contents(volume) == all.map(\.1))
      volume = try open(disk, makeKey(1))
      volume = try open(disk, makeKey(1))
      #expect(try contents(volume) == all.map(\.1) && volume.generation == Generation(UInt64(round)))
    }
  }
}
