import BlockIO
import Crypto
import Glibc
import Primitives
import StorageSimulation
import Testing

@testable import SecureVolume

/// A read fails once, at every place of a workload: in opening, committing, checkpoints, closing, changing slots.
/// Whatever it stops is either tried again with success or refused until the image is opened anew; nothing acknowledged
/// is lost, and what was refused is not there afterwards.
struct FailedReadTests {
  @Test(arguments: PowerCutTests.geometries)
  func aReadThatFailsAtEveryPlace(_ geometry: Geometry) throws {
    let plain = SimulatedDisk(size: geometry.imageSize)
    try format(plain, geometry, key: makeKey(1))
    let image = plain.bytes
    let whole = SimulatedDisk(copyOf: image)
    var ignored = [UInt64?](repeating: 0, count: Int(geometry.sectorCount))
    _ = try work(whole, geometry, &ignored, closing: false)
    let total = whole.reads
    for read in 1...total {
      let disk = SimulatedDisk(copyOf: image)
      disk.inject(.fails(errno: EIO), at: .read(read))
      var acknowledged = [UInt64?](repeating: 0, count: Int(geometry.sectorCount))
      var slotAdded = false
      do { slotAdded = try work(disk, geometry, &acknowledged, closing: read % 2 == 0) } catch {
        guard case .device = error.code else { throw error }
      }
      disk.clearFaults()
      let again = try open(disk, makeKey(1))
      let found = try contents(again)
      #expect(found == acknowledged, "read \(read)")
      #expect(again.slots.contains { $0.name == "two" } == slotAdded, "read \(read)")
    }
    print("failed reads: \(geometry.blockSize): \(total) places")
  }

  /// Twelve commits with checkpoints; then closing or a slot. After an error one more commit is tried, which either is
  /// acknowledged or refused. Returns whether the slot was added.
  private func work(
    _ disk: SimulatedDisk, _ geometry: Geometry, _ acknowledged: inout [UInt64?], closing: Bool
  ) throws(VolumeError) -> Bool {
    let volume = try open(disk, makeKey(1))
    do throws(VolumeError) {
      for step in 1...12 {
        let sector = step * 5 % acknowledged.count
        try volume.commit(changes(geometry.blockSize, [(sector, UInt64(step))]))
        acknowledged[sector] = UInt64(step)
        if step % 5 == 0, volume.checkpoint == nil { try volume.startCheckpoint() }
        _ = try volume.maintain()
      }
      if closing {
        try volume.close()
        return false
      }
      try volume.addSlot(makeKey(2), name: "two", created: 1)
      return true
    } catch {
      if (try? volume.commit(changes(geometry.blockSize, [(0, 99)]))) != nil { acknowledged[0] = 99 }
      try? volume.close()
      throw error
    }
  }

  /// Checkpoints begin in the background early enough that no commit has to wait for a whole one.
  @Test(arguments: [(4096, 64), (4096, 1024), (8192, 64), (16384, 64), (16384, 300), (65536, 16)])
  func maintenanceKeepsUp(_ blockSize: Int, _ count: Int) throws {
    let geometry = try #require(Geometry(blockSize: blockSize, sectorCount: UInt64(count)))
    let disk = SimulatedDisk(size: geometry.imageSize)
    try format(disk, geometry, key: makeKey(1))
    let volume = try open(disk, makeKey(1))
    var stalls = 0
    for step in 0..<600 {
      let before = disk.syncs
      try volume.commit(changes(geometry.blockSize, [(step * 7 % count, UInt64(step + 1))]))
      if disk.syncs > before + 1 { stalls += 1 }
      while try volume.maintain() {}
    }
    #expect(stalls == 0)
  }

  @Test func aSealedVolumeOpensForWritingOnce() throws {
    let geometry = PowerCutTests.geometries[0]
    let disk = SimulatedDisk(size: geometry.imageSize)
    try format(disk, geometry, key: makeKey(1))
    let sealed = try SealedVolume(disk)
    #expect(throws: VolumeError(.wrongKey, store: "", "")) { _ = try sealed.unlock(with: makeKey(2)) }
    _ = try sealed.unlock(with: makeKey(1))
    #expect(throws: VolumeError(.refused, store: "", "")) { _ = try sealed.unlock(with: makeKey(1)) }
  }

  @Test func namesAreComparedByteByByte() throws {
    let geometry = PowerCutTests.geometries[0]
    let disk = SimulatedDisk(size: geometry.imageSize)
    try format(disk, geometry, key: makeKey(1), name: "caf\u{E9}")
    let volume = try open(disk, makeKey(1))
    try volume.addSlot(makeKey(2), name: "cafe\u{301}", created: 1)
    try volume.removeSlot(named: "cafe\u{301}")
    #expect(volume.slots.map { Array($0.name.utf8) } == [Array("caf\u{E9}".utf8)])
  }

  /// Without a key someone fills the ring with headers of the greatest records: opening costs one pass at the most.
  @Test func aForgedRingIsRefusedInOnePass() throws {
    let geometry = try #require(Geometry(blockSize: 4096, sectorCount: 4096))
    let disk = SimulatedDisk(size: geometry.imageSize)
    try format(disk, geometry, key: makeKey(1))
    let volume = try open(disk, makeKey(1))
    try volume.commit(changes(4096, [(0, 1)]))
    var forged = ByteBuffer(count: 4096)
    for block in 0..<geometry.ringSize / 4096 {
      let cursor = JournalCursor(position: block * 4096, sequence: 1 << 40, chain: InlineBytes32())
      JournalRecord(
        count: 4096, generation: Generation(2), epoch: volume.header.epoch, cursor: cursor
      ).encode(to: &forged)
      disk.overwrite(ByteOffset(geometry.ringOffset + block * 4096), with: forged.span.array)
    }
    let reads = disk.reads
    #expect(throws: VolumeError(.notAuthentic(.journal), store: "", "")) { _ = try open(disk, makeKey(1)) }
    #expect(disk.reads - reads < 2000)
  }
}
