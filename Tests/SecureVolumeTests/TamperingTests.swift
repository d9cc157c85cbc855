import BlockIO
import Crypto
import Primitives
import StorageSimulation
import Testing

@testable import SecureVolume

/// What someone without a key does to an image while nobody has it open: noticed, or without effect.
struct TamperingTests {
  static let geometries: [Geometry] = [
    Geometry(blockSize: 4096, sectorCount: 3),
    Geometry(blockSize: 65536, sectorCount: 2),
  ].compactMap { $0 }

  enum Outcome: Hashable {
    /// Refused, with the reason.
    case refused(Status)
    /// Opened with all content as it was; the report or `check` names the change.
    case reported
    /// Opened with all content as it was.
    case withoutEffect
    /// The last record was lost, and the report says that the image was not closed cleanly.
    case honestLoss
    case changedContent
  }

  /// Opens a changed image for reading and reads everything.
  static func outcome(_ disk: SimulatedDisk, expected: Stamps, before: Stamps? = nil) -> Outcome {
    do {
      let volume = try open(disk, makeKey(1))
      let found = try contents(volume)
      if found == expected { return try volume.check().isEmpty ? .withoutEffect : .reported }
      if let before, found == before, !volume.opening.wasClosedCleanly { return .honestLoss }
      return .changedContent
    } catch { return .refused(error.status) }
  }

  /// An image with some content. Leaf table 1 counts where it isn't clean; where it is, either does.
  static func makeImage(
    _ geometry: Geometry, clean: Bool, table: Int = 0
  ) throws -> (bytes: [UInt8], content: Stamps, before: Stamps) {
    let disk = SimulatedDisk(size: geometry.imageSize)
    try format(disk, geometry, key: makeKey(1))
    let volume = try open(disk, makeKey(1))
    var content = Stamps(repeating: 0, count: Int(geometry.sectorCount))
    var before = content
    for step in 1...4 {
      before = content
      content[step % content.count] = UInt64(step)
      try volume.commit(changes(geometry.blockSize, [(step % content.count, UInt64(step))]))
      if step == 2, !(clean && table == 1) {
        try volume.startCheckpoint()
        try volume.finishCheckpoint()
      }
    }
    if clean { try volume.close() }
    return (disk.bytes, content, before)
  }

  /// Bits to flip in a range, `step` apart.
  private static func bits(_ range: Range<Int>, _ step: Int = 1) -> [Int] {
    Array(stride(from: range.lowerBound * 8, to: range.upperBound * 8, by: step))
  }

  /// Every bit of a header's first fields, of the one slot that is used and the MAC; of what is empty some.
  private static func headerBits(_ step: Int = 1) -> [Int] {
    Place.headers.flatMap { header in
      let (start, end) = (header.lowerBound, header.upperBound)
      return bits(start..<start + 344, step) + bits(start + 344..<start + 4064, 11 * step)
        + bits(start + 4064..<start + 4064 + 480, step) + bits(start + 4064 + 480..<end - 32, 37 * step)
        + bits(end - 32..<end, step)
    }
  }

  private static func flipped(
    _ bits: [Int], of bytes: [UInt8], _ content: Stamps, before: Stamps? = nil
  ) -> [Outcome: Int] {
    let whole = SimulatedDisk(copyOf: bytes, isWritable: false)
    var outcomes: [Outcome: Int] = [:]
    for bit in bits {
      let disk = whole.snapshot()
      disk.flip(bit: bit)
      outcomes[outcome(disk, expected: content, before: before), default: 0] += 1
    }
    return outcomes
  }

  /// Every bit of what has a meaning, one at a time (of large blocks a part); and what FORMAT §7 lists as unused,
  /// which is all else, is not even read.
  @Test(arguments: geometries, [0, 1])
  func everyBitOfACleanImage(_ geometry: Geometry, _ table: Int) throws {
    let (bytes, content, _) = try Self.makeImage(geometry, clean: true, table: table)
    #expect(bytes[188] == UInt8(table))
    let leaves = Place.leaves(bytes, geometry)
    let (firstTable, data) = (leaves.lowerBound - table * leaves.count, bytes.count - Int(geometry.volumeSize.value))
    let other = table == 0 ? leaves.upperBound..<data : firstTable..<leaves.lowerBound
    let unused = Place.behindHeaders + [Place.ring..<firstTable, other]
    let all = (Place.headers + [leaves, data..<bytes.count] + unused).sorted { $0.lowerBound < $1.lowerBound }
    #expect(zip(all, all.dropFirst()).allSatisfy { $0.upperBound == $1.lowerBound } && all[0].lowerBound == 0)
    let step = geometry.blockSize > 4096 ? 61 : table == 1 ? 1 : 7
    let second = data + geometry.blockSize
    let entries = leaves.lowerBound..<leaves.lowerBound + 32 * Int(geometry.sectorCount)
    // Headers look alike in every geometry.
    let outcomes = Self.flipped(
      Self.headerBits(table == 1 && step == 1 ? 1 : 61) + Self.bits(entries)
        + Self.bits(entries.upperBound..<leaves.upperBound, 3 * step) + Self.bits(data..<second, step)
        + Self.bits(second..<bytes.count, 5 * step),
      of: bytes, content)
    print("bit flips, clean, blocks of \(geometry.blockSize), leaf table \(table): \(outcomes)")
    #expect(Set(outcomes.keys).isSubset(of: [.refused(.notAuthentic), .reported]))
    #expect(outcomes[.refused(.notAuthentic), default: 0] > 0)
    // Nothing reads the unused space, so that no bit of it, alone or with others, can change anything.
    let disk = SimulatedDisk(copyOf: bytes, isWritable: false)
    for range in unused {
      for block in range.lowerBound / 4096..<range.upperBound / 4096 { disk.makeUnreadable(block: block) }
    }
    disk.resize(to: ByteCount(bytes.count + 5000))
    disk.overwrite(ByteOffset(bytes.count), with: [UInt8](repeating: 0xFF, count: 5000))
    #expect(Self.outcome(disk, expected: content) == .withoutEffect)
  }

  /// Every bit of an image that was not closed: the live records too.
  @Test(arguments: geometries)
  func everyBitOfAnImageThatWasNotClosed(_ geometry: Geometry) throws {
    let (bytes, content, before) = try Self.makeImage(geometry, clean: false)
    let volume = try open(SimulatedDisk(copyOf: bytes, isWritable: false), makeKey(1))
    let live = Int(geometry.ringOffset + volume.header.cursor.position)
    let (step, leaves) = (geometry.blockSize == 4096 ? 7 : 251, Place.leaves(bytes, geometry))
    let used = Int(volume.journal.used)
    let heads = [live..<live + 200, live + used / 2..<live + used / 2 + 200]
    let outcomes = Self.flipped(
      Self.headerBits(7) + heads.flatMap { Self.bits($0) } + Self.bits(live..<live + used, step)
        + Self.bits(leaves, step) + Self.bits(Int(geometry.dataOffset)..<bytes.count, step),
      of: bytes, content, before: before)
    print("bit flips, not closed, blocks of \(geometry.blockSize): \(outcomes)")
    #expect(outcomes[.changedContent] == nil)
    #expect(outcomes[.honestLoss, default: 0] > 0)
    #expect(Set(outcomes.keys).isSubset(of: [.refused(.notAuthentic), .reported, .honestLoss, .withoutEffect]))
  }

  @Test func sectorsSwapped() throws {
    let geometry = Self.geometries[0]
    let (bytes, content, _) = try Self.makeImage(geometry, clean: true)
    let size = geometry.blockSize
    for (a, b) in [(0, 1), (1, 2), (0, 2)] {
      for withLeaves in [false, true] {
        let disk = SimulatedDisk(copyOf: bytes)
        swap(disk, bytes, Int(geometry.dataOffset) + a * size, Int(geometry.dataOffset) + b * size, size)
        if withLeaves {
          swap(
            disk, bytes, Place.leaves(bytes, geometry).lowerBound + a * 32,
            Place.leaves(bytes, geometry).lowerBound + b * 32, 32)
        }
        #expect(Self.outcome(disk, expected: content) == .refused(.notAuthentic))
      }
    }
  }

  private func swap(_ disk: SimulatedDisk, _ bytes: [UInt8], _ a: Int, _ b: Int, _ size: Int) {
    disk.overwrite(ByteOffset(a), with: Array(bytes[b..<b + size]))
    disk.overwrite(ByteOffset(b), with: Array(bytes[a..<a + size]))
  }

  /// Parts of an older copy of the same image: sectors, their leaves, the leaf table, either header, the ring.
  @Test func partsOfAnOlderCopy() throws {
    let geometry = Self.geometries[0]
    let disk = SimulatedDisk(size: geometry.imageSize)
    try format(disk, geometry, key: makeKey(1))
    var volume = try open(disk, makeKey(1))
    try volume.commit(changes(4096, [(0, 1), (1, 1), (2, 1)]))
    try volume.close()
    let older = disk.bytes
    volume = try open(disk, makeKey(1))
    for stamp in 2...3 {
      try volume.commit(changes(4096, [(0, UInt64(stamp)), (1, UInt64(stamp)), (2, UInt64(stamp))]))
      try volume.close()
      volume = try open(disk, makeKey(1))
    }
    try volume.close()
    let newer = disk.bytes
    // The same table counts in both.
    #expect(older[188] == 1 && newer[188] == 1)
    let leaves = Place.leaves(newer, geometry)
    let data = Int(geometry.dataOffset)..<newer.count
    let (a, b) = (Place.headers[0], Place.headers[1])
    let parts: [(String, [Range<Int>])] = [
      ("a sector", [data.lowerBound..<data.lowerBound + 4096]),
      (
        "a sector and its leaf", [data.lowerBound..<data.lowerBound + 4096, leaves.lowerBound..<leaves.lowerBound + 32]
      ),
      ("all data", [data]), ("all leaves", [leaves]), ("leaves and data", [leaves, data]),
      ("header A", [a]), ("header B", [b]),
      ("header A and all else but B", [a, leaves, data]),
      ("header B and all else but A", [b, leaves, data]), ("both headers", [a, b]),
    ]
    for (name, ranges) in parts {
      let mixed = SimulatedDisk(copyOf: newer, isWritable: false)
      for range in ranges { mixed.overwrite(ByteOffset(range.lowerBound), with: Array(older[range])) }
      #expect(Self.outcome(mixed, expected: [3, 3, 3]) == .refused(.notAuthentic), "\(name)")
    }
    // The ring of an image that was closed cleanly has no meaning, nor has the table that doesn't count.
    let ring = SimulatedDisk(copyOf: newer, isWritable: false)
    ring.overwrite(ByteOffset(geometry.ringOffset), with: Array(older[Place.ring..<leaves.lowerBound]))
    #expect(Self.outcome(ring, expected: [3, 3, 3]) == .withoutEffect)
  }

  /// Another store under the same key-encryption key and of the same shape.
  @Test func partsOfAnotherStore() throws {
    let geometry = Self.geometries[0]
    let (one, content, _) = try Self.makeImage(geometry, clean: true)
    let (other, _, _) = try Self.makeImage(geometry, clean: true)
    let leaves = Int(geometry.leafOffset)..<Int(geometry.dataOffset)
    let data = Int(geometry.dataOffset)..<one.count
    let (a, b) = (Place.headers[0], Place.headers[1])
    for ranges in [[a], [b], [a, b], [leaves], [data], [leaves, data]] {
      let disk = SimulatedDisk(copyOf: one, isWritable: false)
      for range in ranges { disk.overwrite(ByteOffset(range.lowerBound), with: Array(other[range])) }
      let outcome = Self.outcome(disk, expected: content)
      #expect(outcome == .refused(.notAuthentic), "\(ranges)")
    }
  }

  /// A copy in the other's place isn't valid there (FORMAT §2), whatever its MAC says: then the other one counts. A
  /// power cut in blocks of 64 KiB may leave it so.
  @Test func aHeaderCopyInTheOthersPlaceDoesNotCount() throws {
    let (bytes, content, _) = try Self.makeImage(Self.geometries[0], clean: false)
    for (from, to) in [(0, 65536), (65536, 0)] {
      let disk = SimulatedDisk(copyOf: bytes)
      disk.overwrite(ByteOffset(to), with: Array(bytes[from..<from + 36864]))
      let volume = try open(disk, makeKey(1))
      #expect(volume.opening.outdatedHeaderCopy == (to == 0 ? 0 : 1))
      #expect(try contents(volume) == content)
    }
  }

  @Test func imagesCutShort() throws {
    let geometry = Self.geometries[0]
    let (bytes, _, _) = try Self.makeImage(geometry, clean: true)
    for size in [1, 16, 17, 40, 127, 128] + Array(stride(from: 0, to: bytes.count, by: 512)) {
      let disk = SimulatedDisk(copyOf: Array(bytes[..<size]), isWritable: false)
      let expected: Outcome = .refused(size < 17 ? .notAnImage : .notAuthentic)
      #expect(Self.outcome(disk, expected: []) == expected, "\(size) bytes")
    }
  }
}
