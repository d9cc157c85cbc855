import BlockIO
import Crypto
import Primitives
import StorageSimulation
import Testing

@testable import SecureVolume

/// Copies of a store that is written between any two pieces of it that are read: each is a state that was acknowledged
/// meanwhile, whole.
struct CopyTests {
  /// Another's disk, read in small pieces without a lock; before each something happens to it.
  final class SharedView: BlockDevice {
    let disk: SimulatedDisk
    var before: () throws -> Void = {}
    var reads = 0
    /// Where the piece lies that is read.
    var offset: UInt64 = 0

    init(_ disk: SimulatedDisk) { self.disk = disk }

    let name = "shared disk"
    var size: ByteCount { disk.size }
    var blockSize: Int { disk.blockSize }
    let isWritable = false
    let mayChange = true

    func read(at offset: ByteOffset, into destination: consuming MutableSpan<UInt8>) throws(BlockError) {
      var done = 0
      while done < destination.count {
        let count = min(4096, destination.count - done)
        reads += 1
        self.offset = offset.value + UInt64(done)
        do { try before() } catch { fatalError("the writer failed: \(error)") }
        try disk.read(
          at: ByteOffset(offset.value + UInt64(done)), into: destination._mutatingExtracting(done..<done + count))
        done += count
      }
    }

    func write(_ source: Span<UInt8>, at offset: ByteOffset) throws(BlockError) { fatalError("opened for reading") }
    func sync() throws(BlockError) { fatalError("opened for reading") }
  }

  /// Somebody at work on a store.
  final class Writer {
    let disk: SimulatedDisk
    var volume: SecureVolume
    var random: SeededGenerator
    /// Content by generation.
    var states: [UInt64: Stamps] = [:]
    var content: Stamps
    private var stamp: UInt64 = 1000

    init(_ disk: SimulatedDisk, _ geometry: Geometry, seed: UInt64) throws {
      self.disk = disk
      volume = try open(disk, makeKey(1))
      random = SeededGenerator(seed: seed)
      content = try contents(volume).map { $0 ?? 0 }
      states[volume.generation.value] = content
    }

    /// One of the things that writers do.
    func work() throws {
      switch Int.random(in: 0..<400, using: &random) {
      case 0..<300: try commit(Int.random(in: 1...3, using: &random))
      case 300..<398:
        if volume.checkpoint == nil, volume.journal.used > volume.geometry.ringSize / 2 { try volume.startCheckpoint() }
        _ = try volume.maintain()
      case 398:
        if volume.slots.count == 1 {
          try volume.addSlot(makeKey(2), name: "two", created: 1)
        } else {
          try volume.removeSlot(named: "two")
        }
      default:
        try volume.close()
        volume = try open(disk, makeKey(1))
      }
    }

    func commit(_ count: Int) throws {
      var updates: [Int: UInt64] = [:]
      for _ in 0..<count {
        stamp += 1
        updates[Int.random(in: 0..<content.count, using: &random)] = stamp
      }
      try volume.commit(changes(volume.sectorSize, updates.map { ($0.key, $0.value) }))
      for (sector, stamp) in updates { content[sector] = stamp }
      states[volume.generation.value] = content
    }
  }

  static let geometries: [Geometry] = [
    Geometry(blockSize: 4096, sectorCount: 12),
    Geometry(blockSize: 16384, sectorCount: 9),
    Geometry(blockSize: 8192, sectorCount: 150),
  ].compactMap { $0 }

  private func make(_ geometry: Geometry) throws -> SimulatedDisk {
    let disk = SimulatedDisk(size: geometry.imageSize)
    try format(disk, geometry, key: makeKey(1), content: (0..<geometry.sectorCount).map { $0 + 1 })
    return disk
  }

  @Test(arguments: geometries, [20, 60, 200])
  func aCopyIsAStateThatWas(_ geometry: Geometry, _ calm: Int) throws {
    let disk = try make(geometry)
    let writer = try Writer(disk, geometry, seed: UInt64(calm))
    for _ in 0..<50 { try writer.work() }
    var moved = 0
    for round in 0..<8 {
      let view = SharedView(disk)
      var chance = SeededGenerator(seed: UInt64(round))
      view.before = { if Int.random(in: 0..<calm, using: &chance) == 0 { try writer.work() } }
      let first = writer.volume.generation.value
      let source = try SealedVolume(view).unlock(with: makeKey(1))
      let target = SimulatedDisk(size: geometry.imageSize)
      let copy = try source.copy(to: target)
      let (generation, last) = (copy.generation.value, writer.volume.generation.value)
      #expect((first...last).contains(generation), "\(generation) is not in \(first)...\(last)")
      #expect(try contents(copy) == writer.states[generation])
      if generation > first { moved += 1 }
      // Whole, closed cleanly, with an empty journal, and a store like any other.
      let reopened = try SealedVolume(SimulatedDisk(copyOf: target.durableBytes, isWritable: false))
        .unlock(with: makeKey(1))
      #expect(try reopened.check().isEmpty && reopened.checkUnusedSpace(for: nil).isEmpty)
      #expect(reopened.opening.wasClosedCleanly && reopened.generation == copy.generation)
      let used = try open(target, makeKey(1))
      try used.commit(changes(geometry.blockSize, [(0, 5)]))
      try used.close()
      #expect(try contents(open(target, makeKey(1))).first == 5)
    }
    if calm < 60 { #expect(moved > 0, "the writer was at work meanwhile") }
  }

  /// Sectors are copied once, and again only where they changed: so copies of large stores come to an end.
  @Test func onlyWhatChangedIsCopiedAgain() throws {
    let geometry = try #require(Geometry(blockSize: 4096, sectorCount: 600))
    let disk = try make(geometry)
    let writer = try Writer(disk, geometry, seed: 7)
    let view = SharedView(disk)
    // A commit for every sixteen sectors that are read; while headers, leaves and ring are, nothing.
    view.before = { if view.offset >= geometry.dataOffset, view.reads % 16 == 0 { try writer.work() } }
    let target = SimulatedDisk(size: geometry.imageSize)
    let copy = try SealedVolume(view).unlock(with: makeKey(1)).copy(to: target)
    #expect(try contents(copy) == writer.states[copy.generation.value])
    let sectors = target.log.filter { $0.offset.value >= geometry.dataOffset }.reduce(0) { $0 + $1.count } / 4096
    #expect((600..<900).contains(sectors))
  }

  @Test(arguments: geometries)
  func aCleanImageKeepsItsHeader(_ geometry: Geometry) throws {
    let disk = try make(geometry)
    let volume = try open(disk, makeKey(1))
    try volume.commit(changes(geometry.blockSize, [(1, 77)]))
    let target = SimulatedDisk(size: geometry.imageSize)
    // In use: its number is that of the next header, whichever that will be.
    let inUse = try SealedVolume(SharedView(disk)).unlock(with: makeKey(1)).copy(to: target)
    #expect(inUse.header.sequence == volume.header.sequence + 1 && inUse.header.isClean)
    try volume.close()
    let closed = SimulatedDisk(size: geometry.imageSize)
    _ = try SealedVolume(SharedView(disk)).unlock(with: makeKey(1)).copy(to: closed)
    for header in Place.headers { #expect(closed.bytes[header] == disk.bytes[header]) }
    let table = Int(geometry.leafTableOffset(volume.header.leafTable))
    #expect(closed.bytes[table..<table + geometry.blockSize] == disk.bytes[table..<table + geometry.blockSize])
    #expect(closed.bytes[Int(geometry.dataOffset)...] == disk.bytes[Int(geometry.dataOffset)...])
  }

  /// Damage is told from writing, and ends the copy; the target is no image then.
  @Test(arguments: geometries)
  func damageEndsACopy(_ geometry: Geometry) throws {
    let disk = try make(geometry)
    let writer = try Writer(disk, geometry, seed: 1)
    try writer.commit(2)
    try writer.volume.close()
    writer.volume = try open(disk, makeKey(1))
    disk.flip(bit: Int(geometry.place(of: SectorIndex(3)).value) * 8 + 5)
    for isBusy in [false, true] {
      let view = SharedView(disk)
      if isBusy { view.before = { if view.reads % 50 == 0 { _ = try writer.volume.maintain() } } }
      let source = try SealedVolume(view).unlock(with: makeKey(1))
      let target = SimulatedDisk(size: geometry.imageSize)
      #expect(throws: VolumeError(.notAuthentic(.sector), store: "", "")) { _ = try source.copy(to: target) }
      #expect(throws: VolumeError(.notAnImage, store: "", "")) { _ = try SealedVolume(target) }
    }
  }

  /// Power goes after any write of the copy: no image, or all of it.
  @Test func aCopyIsAllOrNothing() throws {
    let geometry = Self.geometries[1]
    let disk = try make(geometry)
    let source = try SealedVolume(SimulatedDisk(copyOf: disk.bytes, isWritable: false)).unlock(with: makeKey(1))
    let target = SimulatedDisk(size: geometry.imageSize)
    var random = SeededGenerator(seed: 3)
    var outcomes: [String: Int] = [:]
    target.afterOperation = { _ in
      for _ in 0..<20 {
        let left = target.crashed(using: &random)
        do throws(VolumeError) {
          let isWhole = try contents(open(left, makeKey(1))) == (0..<geometry.sectorCount).map { $0 + 1 }
          outcomes[isWhole ? "whole" : "mixed", default: 0] += 1
        } catch {
          outcomes[error.status == .notAuthentic ? "refused" : "\(error.status)", default: 0] += 1
        }
      }
    }
    _ = try source.copy(to: target)
    #expect(Set(outcomes.keys).isSubset(of: ["whole", "refused", "not-an-image", "wrong-key"]), "\(outcomes)")
    #expect(outcomes["whole", default: 0] > 0 && outcomes["not-an-image", default: 0] > 0)
  }

  /// Headers that change all the time: status 9, in the end. (Some seconds of waiting.)
  @Test func itGivesUpInTheEnd() throws {
    let geometry = Self.geometries[0]
    let disk = try make(geometry)
    let writer = try Writer(disk, geometry, seed: 2)
    let view = SharedView(disk)
    view.before = { if view.reads % 8 == 0 { try writer.volume.settleImage { _ in } } }
    #expect(throws: VolumeError(.device(.inUse), store: "", "")) {
      _ = try SealedVolume(view).unlock(with: makeKey(1))
    }
  }
}
