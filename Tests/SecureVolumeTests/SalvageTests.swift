import BlockIO
import Crypto
import Primitives
import StorageSimulation
import Testing

@testable import SecureVolume

/// Damaged images, opened as far as they verify: what is served is what was written, and it is said what that is worth.
struct SalvageTests {
  static let geometries: [Geometry] = [
    Geometry(blockSize: 4096, sectorCount: 6),
    Geometry(blockSize: 16384, sectorCount: 7),
    Geometry(blockSize: 4096, sectorCount: 300),
  ].compactMap { $0 }

  /// Sectors hold 1, 2, 3, …; then five commits, of which the last three are in the journal alone where it isn't
  /// closed.
  private func make(_ geometry: Geometry, closed: Bool) throws -> (disk: SimulatedDisk, states: [Stamps]) {
    let disk = SimulatedDisk(size: geometry.imageSize)
    var content: Stamps = (0..<geometry.sectorCount).map { $0 + 1 }
    try format(disk, geometry, key: makeKey(1), content: content)
    let volume = try open(disk, makeKey(1))
    var states = [content]
    for step in 1...5 {
      let updates = [(step, UInt64(1000 + step)), (0, UInt64(2000 + step))]
      try volume.commit(changes(geometry.blockSize, updates))
      for (sector, stamp) in updates { content[sector] = stamp }
      states.append(content)
      if step == 2 {
        try volume.startCheckpoint()
        try volume.finishCheckpoint()
      }
    }
    if closed { try volume.close() }
    return (disk, states)
  }

  /// What is left: content, `nil` where it doesn't verify.
  private func salvage(_ disk: SimulatedDisk) throws -> (SecureVolume, [UInt64?]) {
    let reading = SimulatedDisk(copyOf: disk.bytes, isWritable: false)
    for block in disk.unreadable { reading.makeUnreadable(block: block) }
    let volume = try SealedVolume(reading, for: .salvage).unlock(with: makeKey(1))
    var buffer = ByteBuffer(count: volume.sectorSize)
    let content = (0..<volume.sectorCount).map { sector -> UInt64? in
      guard (try? volume.read(SectorIndex(sector), into: buffer.mutableSpan)) != nil else { return nil }
      return stamp(buffer.span)
    }
    return (volume, content)
  }

  @Test(arguments: geometries, [true, false])
  func wholeImages(_ geometry: Geometry, _ closed: Bool) throws {
    let (disk, states) = try make(geometry, closed: closed)
    let (volume, content) = try salvage(disk)
    #expect(content == states[5] && volume.opening.trust == .tree && volume.opening.findings.isEmpty)
  }

  /// One header copy is gone, whichever, flipped or unreadable.
  @Test(arguments: geometries, [true, false])
  func oneHeaderCopy(_ geometry: Geometry, _ closed: Bool) throws {
    let (made, states) = try make(geometry, closed: closed)
    for copy in 0...1 {
      for isUnreadable in [true, false] {
        let disk = made.snapshot()
        if isUnreadable {
          disk.makeUnreadable(block: copy * 16 + 1)
        } else {
          disk.flip(bit: copy * 65536 * 8 + 5000 * 8)
        }
        let (volume, content) = try salvage(disk)
        #expect(content == states[5] && volume.opening.trust == .tree && !volume.opening.findings.isEmpty)
      }
    }
  }

  /// Both copies are spoilt: sizes and slots are taken as they are, every sector by itself, the newest version of each.
  @Test(arguments: geometries, [true, false])
  func bothHeaderCopies(_ geometry: Geometry, _ closed: Bool) throws {
    let (disk, states) = try make(geometry, closed: closed)
    disk.flip(bit: 150 * 8)
    disk.flip(bit: (65536 + 150) * 8)
    let (volume, content) = try salvage(disk)
    #expect(content == states[5] && volume.opening.trust == .sectors)
    #expect(volume.opening.findings.filter { $0.code == .header }.count == 2)
    // Without a slot nothing opens it.
    for index in 0..<2 { disk.flip(bit: (index * 65536 + 4064 + 88) * 8) }
    #expect(throws: VolumeError(.wrongKey, store: "", "")) { _ = try salvage(disk) }
  }

  /// Copies of different times: the newest whose tree verifies.
  @Test(arguments: geometries)
  func headersOfDifferentTimes(_ geometry: Geometry) throws {
    let (disk, states) = try make(geometry, closed: true)
    let older = disk.bytes
    let volume = try open(disk, makeKey(1))
    try volume.commit(changes(geometry.blockSize, [(1, 7)]))
    try volume.close()
    disk.overwrite(ByteOffset(0), with: Array(older[Place.headers[0]]))
    #expect(throws: VolumeError(.notAuthentic(.headerPair), store: "", "")) { _ = try open(disk, makeKey(1)) }
    let (salvaged, content) = try salvage(disk)
    var expected = states[5]
    expected[1] = 7
    #expect(content == expected && salvaged.opening.trust == .tree)
    #expect(salvaged.opening.findings.map(\.code) == [.headerPair])
  }

  @Test(arguments: geometries)
  func leafBlocks(_ geometry: Geometry) throws {
    let (made, states) = try make(geometry, closed: true)
    let last = Int(geometry.sectorCount) - 1
    let disk = made.snapshot()
    let table = Place.leaves(made.bytes, geometry).lowerBound
    disk.flip(bit: (table + last * 32 + 3) * 8)
    var expected: [UInt64?] = states[5]
    // The journal's last record may have it, too.
    if last > 5 { expected[last] = nil }
    var (volume, content) = try salvage(disk)
    #expect(content == expected && volume.opening.trust == .sectors)
    let findings = try volume.check()
    #expect(findings.map(\.code) == (last > 5 ? [.tree, .sector, .tree] : [.tree]))
    let block = last / (geometry.blockSize / 32)
    if last > 5 { #expect(findings.last?.offset == ByteOffset(table + block * geometry.blockSize)) }
    // All of a block, from which the journal's last records save some.
    let unreadable = made.snapshot()
    unreadable.makeUnreadable(block: table / 4096)
    (volume, content) = try salvage(unreadable)
    #expect(volume.opening.findings.contains { $0.code == .unreadable })
    for (sector, found) in content.enumerated() where sector >= 128 || found != nil {
      #expect(found == states[5][sector])
    }
    #expect(content[3] == 1003 && content[0] == 2005)
  }

  @Test(arguments: geometries)
  func sectors(_ geometry: Geometry) throws {
    let (disk, states) = try make(geometry, closed: true)
    disk.flip(bit: Int(geometry.place(of: SectorIndex(2)).value) * 8 + 77)
    let (volume, content) = try salvage(disk)
    var expected: [UInt64?] = states[5]
    expected[2] = nil
    #expect(content == expected && volume.opening.trust == .tree && volume.opening.findings.isEmpty)
  }

  /// A record in the middle is damaged: the state before it, whole.
  @Test(arguments: geometries)
  func aRecordInTheMiddle(_ geometry: Geometry) throws {
    let (disk, states) = try make(geometry, closed: false)
    let volume = try open(SimulatedDisk(copyOf: disk.bytes, isWritable: false), makeKey(1))
    let second = geometry.ringOffset + volume.journal.tail.position + geometry.recordSize(2)
    disk.flip(bit: Int(second) * 8 + 1000)
    #expect(throws: VolumeError(.notAuthentic(.journal), store: "", "")) { _ = try open(disk, makeKey(1)) }
    let (salvaged, content) = try salvage(disk)
    #expect(content == states[3] && salvaged.opening.trust == .tree)
    #expect(salvaged.opening.findings.map(\.code) == [.journal])
    #expect(salvaged.opening.findings.first?.offset == ByteOffset(second))
    #expect(salvaged.generation == Generation(3))
  }

  /// Whatever is damaged, what is served was once written there; and where the tree verifies, all of it is of one
  /// state.
  @Test(arguments: geometries, [true, false])
  func atRandom(_ geometry: Geometry, _ closed: Bool) throws {
    let (made, states) = try make(geometry, closed: closed)
    var outcomes: [String: Int] = [:]
    var random = SeededGenerator(seed: geometry.sectorCount)
    for _ in 0..<150 {
      let disk = made.snapshot()
      for _ in 0..<Int.random(in: 1...3, using: &random) {
        let place = Self.place(geometry, &random)
        disk.overwrite(
          ByteOffset(place),
          with: (0..<Int.random(in: 1...64, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) })
      }
      let outcome: String
      do {
        let (volume, content) = try salvage(disk)
        let isOfOneState = states.contains { state in
          zip(state, content).allSatisfy { $0.1 == nil || $0.1 == $0.0 }
        }
        let wasWritten = content.enumerated().allSatisfy { sector, found in
          found == nil || states.contains { $0[sector] == found }
        }
        #expect(wasWritten && (isOfOneState || volume.opening.trust == .sectors))
        outcome = volume.opening.trust.rawValue
      } catch let error as VolumeError { outcome = "\(error.status)" }
      outcomes[outcome, default: 0] += 1
    }
    print("salvaged, blocks of \(geometry.blockSize), closed \(closed): \(outcomes)")
    #expect(outcomes["tree", default: 0] > 0 && outcomes["sectors", default: 0] > 0)
  }

  /// A place in headers, ring, leaf table or data, each as likely.
  private static func place(_ geometry: Geometry, _ random: inout SeededGenerator) -> Int {
    let regions = [
      0..<5000, 65536..<70536, Int(geometry.ringOffset)..<Int(geometry.ringOffset) + 90_000,
      Int(geometry.leafOffset)..<Int(geometry.leafOffset) + Int(geometry.sectorCount) * 32,
      Int(geometry.leafTableOffset(1))..<Int(geometry.leafTableOffset(1)) + Int(geometry.sectorCount) * 32,
      Int(geometry.dataOffset)..<Int(geometry.imageSize.value) - 64,
    ]
    return Int.random(in: regions[Int.random(in: 0..<regions.count, using: &random)], using: &random)
  }
}
