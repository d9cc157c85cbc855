import BlockIO
import Crypto
import Glibc
import Primitives
import StorageSimulation
import Testing

@testable import SecureVolume

/// What `check` says: every sector, whatever fails before it; and everything in space that means nothing.
struct CheckTests {
  static let geometries: [Geometry] = [
    Geometry(blockSize: 4096, sectorCount: 5),
    Geometry(blockSize: 16384, sectorCount: 7),
    Geometry(blockSize: 65536, sectorCount: 3),
  ].compactMap { $0 }

  /// An image whose sectors hold 1, 2, 3, …, closed and scrubbed.
  private func make(_ geometry: Geometry, extra: Int = 0) throws -> SimulatedDisk {
    let disk = SimulatedDisk(size: geometry.imageSize + ByteCount(extra))
    try format(disk, geometry, key: makeKey(1), content: (0..<geometry.sectorCount).map { $0 + 1 })
    let volume = try open(disk, makeKey(1))
    try volume.addSlot(makeKey(2), name: "removed", created: 1)
    try volume.commit(changes(geometry.blockSize, [(1, 2)]))
    try volume.scrub()
    try volume.close()
    return disk
  }

  /// Where the leaf table lies that the header doesn't name.
  private func unusedTable(_ disk: SimulatedDisk, _ geometry: Geometry) -> UInt64 {
    geometry.leafTableOffset(1 - Int(disk.byte(at: 188)))
  }

  /// All that is to be said of a disk.
  private func check(_ disk: SimulatedDisk) throws -> ([VolumeFinding], [UnusedSpaceFinding]) {
    let volume = try SealedVolume(SimulatedDisk(copyOf: disk.bytes, isWritable: false)).unlock(with: makeKey(1))
    let search = try LeftOverSearch(contentSize: volume.geometry.volumeSize)
    search.add(needle: Array("needle in a haystack".utf8))
    return (try volume.check(for: search), try volume.checkUnusedSpace(for: search))
  }

  @Test(arguments: geometries)
  func aScrubbedImageHasNothingToSay(_ geometry: Geometry) throws {
    let (findings, unused) = try check(make(geometry, extra: 5000))
    #expect(findings.isEmpty && unused.isEmpty)
  }

  /// The ring of an image that was written to, closed and not.
  @Test(arguments: geometries)
  func oldCiphertextIsNoDamage(_ geometry: Geometry) throws {
    let disk = try make(geometry)
    let volume = try open(disk, makeKey(1))
    try volume.commit(changes(geometry.blockSize, [(2, 3)]))
    // What counts isn't old.
    var (findings, unused) = try check(disk)
    #expect(findings.isEmpty && unused.isEmpty)
    try volume.close()
    (findings, unused) = try check(disk)
    #expect(findings.isEmpty && unused.map(\.code) == [.oldCiphertext])
  }

  /// Content at any offset of every region, across the scan's windows too; and half of what is looked for isn't found.
  @Test(arguments: geometries)
  func plaintextIsFoundWhereverItLies(_ geometry: Geometry) throws {
    let clean = try make(geometry, extra: 600_000)
    let end = Int(geometry.imageSize.value)
    var content = ByteBuffer(count: geometry.blockSize)
    fill(3, content.mutableSpan)
    let table = Int(unusedTable(clean, geometry))
    var places = [36864, 36869, 65536 - 31, 102_400 + 13, 131_072, 131_072 + 100_001, end + 3, end + (1 << 18) - 16]
    places += [end + (1 << 18) - 5, end + (1 << 18), table, table + geometry.blockSize - 31]
    for place in places {
      let disk = clean.snapshot()
      disk.overwrite(ByteOffset(place), with: content.span(100..<131).array)
      let found = try check(disk).1.filter { $0.code == .plaintext }
      #expect(found.count == 1 && found[0].detail.contains("content of sector 2"), "\(place)")
      #expect(found.first.map { Int($0.offset.value) - place } == 12, "112 is the first multiple of 16")
      let half = clean.snapshot()
      half.overwrite(ByteOffset(place), with: content.span(97..<112).array)
      #expect(try check(half).1.contains { $0.code == .plaintext } == false)
    }
    let disk = clean.snapshot()
    disk.overwrite(ByteOffset(140_001), with: Array("a needle in a haystack".utf8))
    #expect(try check(disk).1.map(\.code) == [.plaintext, .oldCiphertext])
  }

  /// Behind a record that counts, and in place where the journal has a newer version.
  @Test func plaintextBesideWhatCounts() throws {
    let geometry = Self.geometries[1]
    let disk = try make(geometry)
    let volume = try open(disk, makeKey(1))
    try volume.commit(changes(geometry.blockSize, [(2, 3)]))
    var content = ByteBuffer(count: geometry.blockSize)
    fill(3, content.mutableSpan)
    // FORMAT §7: a record of one sector has 200 bytes before its padding.
    let padding = geometry.ringOffset + volume.journal.tail.position + 200
    for place in [padding, padding + UInt64(geometry.blockSize) - 200 - 31, geometry.place(of: SectorIndex(2)).value] {
      let changed = disk.snapshot()
      changed.overwrite(ByteOffset(place), with: content.span(100..<131).array)
      let (findings, unused) = try check(changed)
      #expect(findings.isEmpty && unused.contains { $0.code == .plaintext }, "\(place)")
    }
  }

  /// A header from before a slot was removed, and one slot of it, in every region that means nothing.
  @Test(arguments: geometries)
  func staleWraps(_ geometry: Geometry) throws {
    let disk = try make(geometry)
    let older = disk.bytes
    let volume = try open(disk, makeKey(1))
    try volume.removeSlot(named: "removed")
    try volume.close()
    #expect(try check(disk).1.allSatisfy { $0.code == .oldCiphertext })
    for place in [36864, 102_400, 131_072] {
      let changed = disk.snapshot()
      changed.overwrite(ByteOffset(place), with: Array(older[4064 - 512..<4064 + 4096]))
      let wraps = try check(changed).1.filter { $0.code == .staleWrap }
      #expect(wraps.map { Int($0.offset.value) - place } == [512, 512 + 2048])
      #expect(wraps.map { $0.detail.contains("still in use") } == [true, false])
      #expect(wraps.last?.detail.contains("\"removed\"") == true)
      let one = disk.snapshot()
      one.overwrite(ByteOffset(place + 77), with: Array(older[4064 + 2048..<4064 + 4096]))
      #expect(try check(one).1.filter { $0.code == .staleWrap }.map { Int($0.offset.value) - place } == [77])
    }
  }

  @Test(arguments: geometries)
  func whatShouldBeZero(_ geometry: Geometry) throws {
    let clean = try make(geometry, extra: 100)
    let end = Int(geometry.imageSize.value)
    for place in [36864, 65535, 102_400, 131_071, end, end + 99] {
      let disk = clean.snapshot()
      disk.overwrite(ByteOffset(place), with: [1])
      let (findings, unused) = try check(disk)
      #expect(findings.isEmpty && unused.map(\.code) == [.notZero])
      #expect(unused.map(\.offset) == [ByteOffset(place)] && unused.map(\.count) == [1])
    }
  }

  /// What is alike and side by side is one finding, with its range; what lies between ends it.
  @Test func rangesOfSectors() throws {
    let geometry = try #require(Geometry(blockSize: 4096, sectorCount: 40))
    let disk = try make(geometry)
    let data = Int(geometry.dataOffset)
    for sector in [3, 4, 5, 7, 20, 21, 39] { disk.flip(bit: (data + sector * 4096 + 9) * 8) }
    let reading = SimulatedDisk(copyOf: disk.bytes, isWritable: false)
    for sector in [22, 23, 24] { reading.makeUnreadable(block: data / 4096 + sector) }
    let findings = try SealedVolume(reading).unlock(with: makeKey(1)).check()
    #expect(findings.map(\.sector?.value) == [3, 7, 20, 22, 39] && findings.map(\.sectorCount) == [3, 1, 2, 3, 1])
    #expect(findings.map(\.code) == [.sector, .sector, .sector, .unreadable, .sector])
    #expect(findings.map { $0.offset.value } == [3, 7, 20, 22, 39].map { UInt64(data + $0 * 4096) })
    #expect(findings[0].detail.contains("sectors 3 to 5 are") && findings[1].detail.contains("sector 7 is"))
    #expect(findings[3].severity == .unreadable && findings[3].detail.contains("sectors 22 to 24"))
    // Cut short: nothing is left of the last ones.
    let short = SimulatedDisk(copyOf: Array(disk.bytes.dropLast(10 * 4096)), isWritable: false)
    let missing = try SealedVolume(short, for: .salvage).unlock(with: makeKey(1)).check().filter { $0.sector != nil }
    #expect(missing.last?.sector == SectorIndex(30) && missing.last?.sectorCount == 10)
    #expect(missing.last?.detail.contains("missing") == true)
  }

  /// A block of the ring that can't be read takes no record with it that lies before or behind it.
  @Test func anUnreadableBlockOfTheRing() throws {
    let geometry = try #require(Geometry(blockSize: 4096, sectorCount: 6))
    let disk = SimulatedDisk(size: geometry.imageSize)
    try format(disk, geometry, key: makeKey(1), content: [1, 2, 3, 4, 5, 6])
    let volume = try open(disk, makeKey(1))
    for sector in 0..<6 { try volume.commit(changes(4096, [(sector, UInt64(10 + sector))])) }
    // The tree is gone, too: leaves are those that the ring's records tell.
    disk.flip(bit: Place.leaves(disk.bytes, geometry).lowerBound * 8)
    let reading = SimulatedDisk(copyOf: disk.bytes, isWritable: false)
    reading.makeUnreadable(block: (Place.ring + 3 * 2 * 4096) / 4096)
    let found = try SealedVolume(reading, for: .salvage).unlock(with: makeKey(1))
    var buffer = ByteBuffer(count: 4096)
    let content = (0..<UInt64(6)).map { sector -> UInt64? in
      (try? found.read(SectorIndex(sector), into: buffer.mutableSpan)) == nil ? nil : stamp(buffer.span)
    }
    #expect(content == [10, 11, 12, 4, 14, 15])
  }

  /// Sectors that can't be read are named, and those behind them checked.
  @Test(arguments: geometries)
  func itGoesOnPastWhatCantBeRead(_ geometry: Geometry) throws {
    let bytes = try make(geometry).bytes
    let disk = SimulatedDisk(copyOf: bytes, isWritable: false)
    disk.makeUnreadable(block: (Int(geometry.dataOffset) + geometry.blockSize) / 4096)
    disk.makeUnreadable(block: 10)
    disk.flip(bit: Int(geometry.dataOffset) * 8 + (Int(geometry.sectorCount) - 1) * geometry.blockSize * 8)
    let volume = try SealedVolume(disk).unlock(with: makeKey(1))
    let findings = try volume.check()
    let unreadable = findings.filter { $0.severity == .unreadable }
    #expect(unreadable.map(\.sector) == [SectorIndex(1)])
    #expect(unreadable.first?.offset == ByteOffset(geometry.dataOffset + UInt64(geometry.blockSize)))
    #expect(findings.filter { $0.severity == .damage }.map(\.sector) == [SectorIndex(geometry.sectorCount - 1)])
    #expect(try volume.checkUnusedSpace(for: nil).map(\.code) == [.unreadable])
  }

  /// One header copy can't be read: nothing is written, since it may come back; reading goes on.
  @Test(arguments: geometries, [0, 1])
  func anUnreadableHeaderCopy(_ geometry: Geometry, _ copy: Int) throws {
    for clean in [true, false] {
      let made = try make(geometry)
      let volume = try open(made, makeKey(1))
      try volume.commit(changes(geometry.blockSize, [(0, 9)]))
      if clean { try volume.close() }
      let disk = SimulatedDisk(copyOf: made.bytes)
      disk.makeUnreadable(block: copy == 0 ? 1 : 17)
      #expect(throws: VolumeError(.device(.inputOutput), store: "", "")) { _ = try open(disk, makeKey(1)) }
      #expect(disk.writes == 0)
      let reading = SimulatedDisk(copyOf: made.bytes, isWritable: false)
      reading.makeUnreadable(block: copy == 0 ? 1 : 17)
      let found = try SealedVolume(reading).unlock(with: makeKey(1))
      #expect(try contents(found).first == 9)
      #expect(try found.check().map(\.code) == [.unreadable])
      #expect(found.opening.outdatedHeaderCopy == copy)
      disk.clearFaults()
      #expect(try contents(open(disk, makeKey(1))).first == 9)
      // With the other one gone, too, it is the device's error and not "no image" or "wrong key".
      for bit in [0, 200 * 8, 36862 * 8] {
        let both = SimulatedDisk(copyOf: made.bytes, isWritable: false)
        both.makeUnreadable(block: copy == 0 ? 1 : 17)
        both.flip(bit: (copy == 0 ? 65536 * 8 : 0) + bit)
        #expect(throws: VolumeError(.device(.inputOutput), store: "", "")) { _ = try open(both, makeKey(1)) }
      }
    }
  }
}
