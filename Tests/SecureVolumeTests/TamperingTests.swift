import BlockIO
import Crypto
import Primitives
import StorageSimulation
import Testing

@testable import SecureVolume

/// What someone without a key does to an image while nobody has it open: noticed, or without effect.
struct TamperingTests {
  static let geometries: [Geometry] = [
    Geometry(sectorSize: 4096, blockSize: 4096, sectorCount: 3),
    Geometry(sectorSize: 512, blockSize: 4096, sectorCount: 3),
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

  /// An image with some content, and where in it nothing has a meaning, as FORMAT §7 lists it.
  static func makeImage(_ geometry: Geometry, clean: Bool) throws -> (bytes: [UInt8], content: Stamps, before: Stamps) {
    let disk = SimulatedDisk(size: geometry.imageSize)
    try format(disk, geometry, key: makeKey(1))
    let volume = try open(disk, makeKey(1))
    var content = Stamps(repeating: 0, count: Int(geometry.sectorCount))
    var before = content
    for step in 1...4 {
      before = content
      content[step % content.count] = UInt64(step)
      try volume.commit(changes(geometry.sectorSize, [(step % content.count, UInt64(step))]))
      if step == 2 {
        try volume.startCheckpoint()
        try volume.finishCheckpoint()
      }
    }
    if clean { try volume.close() }
    return (disk.bytes, content, before)
  }

  /// Headers look alike in every geometry: their bits are flipped in the first only.
  private static func headers(_ geometry: Geometry) -> [Range<Int>] {
    geometry == geometries[0] ? [0..<8192, 16384..<24576] : []
  }

  /// Every bit of what has a meaning, one at a time; and what FORMAT §7 lists as unused is not even read.
  @Test(arguments: geometries)
  func everyBitOfACleanImage(_ geometry: Geometry) throws {
    let (bytes, content, _) = try Self.makeImage(geometry, clean: true)
    let dataEnd = Int(geometry.dataOffset + geometry.volumeSize.value)
    let used = Self.headers(geometry) + [Int(geometry.leafOffset)..<dataEnd]
    var outcomes: [Outcome: Int] = [:]
    for range in used {
      for bit in range.lowerBound * 8..<range.upperBound * 8 {
        let disk = SimulatedDisk(copyOf: bytes, isWritable: false)
        disk.flip(bit: bit)
        outcomes[Self.outcome(disk, expected: content), default: 0] += 1
      }
    }
    print("bit flips, clean, \(geometry.sectorSize)-byte sectors: \(outcomes)")
    #expect(Set(outcomes.keys).isSubset(of: [.refused(.notAuthentic), .reported]))
    #expect(outcomes[.refused(.notAuthentic), default: 0] > 0)
    // Nothing reads the unused space, so that no bit of it, alone or with others, can change anything.
    let disk = SimulatedDisk(copyOf: bytes, isWritable: false)
    for range in [8192..<16384, 24576..<32768, 32768..<Int(geometry.leafOffset)] {
      for block in range.lowerBound / 4096..<range.upperBound / 4096 { disk.makeUnreadable(block: block) }
    }
    disk.overwrite(ByteOffset(dataEnd), with: bytes[dataEnd...].map { ~$0 })
    #expect(Self.outcome(disk, expected: content) == .withoutEffect)
  }

  /// Every bit of an image that was not closed: the live records too.
  @Test(arguments: geometries)
  func everyBitOfAnImageThatWasNotClosed(_ geometry: Geometry) throws {
    let (bytes, content, before) = try Self.makeImage(geometry, clean: false)
    let volume = try open(SimulatedDisk(copyOf: bytes, isWritable: false), makeKey(1))
    let live = Int(geometry.ringOffset + volume.header.cursor.position)
    let used = [
      0..<8192, 16384..<24576, live..<live + Int(volume.journal.used), Int(geometry.leafOffset)..<bytes.count,
    ]
    var outcomes: [Outcome: Int] = [:]
    for range in used {
      for bit in range.lowerBound * 8..<range.upperBound * 8 {
        let disk = SimulatedDisk(copyOf: bytes, isWritable: false)
        disk.flip(bit: bit)
        outcomes[Self.outcome(disk, expected: content, before: before), default: 0] += 1
      }
    }
    print("bit flips, not closed, \(geometry.sectorSize)-byte sectors: \(outcomes)")
    #expect(outcomes[.changedContent] == nil)
    #expect(outcomes[.honestLoss, default: 0] > 0)
    #expect(Set(outcomes.keys).isSubset(of: [.refused(.notAuthentic), .reported, .honestLoss, .withoutEffect]))
  }

  @Test func sectorsSwapped() throws {
    let geometry = Self.geometries[0]
    let (bytes, content, _) = try Self.makeImage(geometry, clean: true)
    let size = geometry.sectorSize
    for (a, b) in [(0, 1), (1, 2), (0, 2)] {
      for withLeaves in [false, true] {
        let disk = SimulatedDisk(copyOf: bytes)
        swap(disk, bytes, Int(geometry.dataOffset) + a * size, Int(geometry.dataOffset) + b * size, size)
        if withLeaves { swap(disk, bytes, Int(geometry.leafOffset) + a * 32, Int(geometry.leafOffset) + b * 32, 32) }
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
    try volume.commit(changes(4096, [(0, 2), (1, 2), (2, 2)]))
    try volume.close()
    let newer = disk.bytes
    let leaves = Int(geometry.leafOffset)..<Int(geometry.dataOffset)
    let data = Int(geometry.dataOffset)..<newer.count
    let parts: [(String, [Range<Int>])] = [
      ("a sector", [data.lowerBound..<data.lowerBound + 4096]),
      (
        "a sector and its leaf", [data.lowerBound..<data.lowerBound + 4096, leaves.lowerBound..<leaves.lowerBound + 32]
      ),
      ("all data", [data]), ("all leaves", [leaves]), ("leaves and data", [leaves, data]),
      ("header A", [0..<8192]), ("header B", [16384..<24576]),
      ("header A and all else but B", [0..<8192, leaves, data]),
      ("header B and all else but A", [16384..<24576, leaves, data]), ("both headers", [0..<8192, 16384..<24576]),
    ]
    for (name, ranges) in parts {
      let mixed = SimulatedDisk(copyOf: newer, isWritable: false)
      for range in ranges { mixed.overwrite(ByteOffset(range.lowerBound), with: Array(older[range])) }
      #expect(Self.outcome(mixed, expected: [2, 2, 2]) == .refused(.notAuthentic), "\(name)")
    }
    // The ring of an image that was closed cleanly has no meaning.
    let ring = SimulatedDisk(copyOf: newer, isWritable: false)
    ring.overwrite(ByteOffset(geometry.ringOffset), with: Array(older[Int(geometry.ringOffset)..<leaves.lowerBound]))
    #expect(Self.outcome(ring, expected: [2, 2, 2]) == .withoutEffect)
  }

  /// Another store under the same key-encryption key and of the same shape.
  @Test func partsOfAnotherStore() throws {
    let geometry = Self.geometries[0]
    let (one, content, _) = try Self.makeImage(geometry, clean: true)
    let (other, _, _) = try Self.makeImage(geometry, clean: true)
    let leaves = Int(geometry.leafOffset)..<Int(geometry.dataOffset)
    let data = Int(geometry.dataOffset)..<one.count
    for ranges in [[0..<8192], [16384..<24576], [0..<8192, 16384..<24576], [leaves], [data], [leaves, data]] {
      let disk = SimulatedDisk(copyOf: one, isWritable: false)
      for range in ranges { disk.overwrite(ByteOffset(range.lowerBound), with: Array(other[range])) }
      let outcome = Self.outcome(disk, expected: content)
      #expect(outcome == .refused(.notAuthentic), "\(ranges)")
    }
  }

  /// A copy in the other's place isn't valid there (FORMAT §2), whatever its MAC says: then the other one counts.
  @Test func aHeaderCopyInTheOthersPlaceDoesNotCount() throws {
    let (bytes, content, _) = try Self.makeImage(Self.geometries[0], clean: false)
    for (from, to) in [(0, 16384), (16384, 0)] {
      let disk = SimulatedDisk(copyOf: bytes)
      disk.overwrite(ByteOffset(to), with: Array(bytes[from..<from + 8192]))
      let volume = try open(disk, makeKey(1))
      #expect(volume.opening.outdatedHeaderCopy == (to == 0 ? 0 : 1))
      #expect(try contents(volume) == content)
    }
  }

  @Test func imagesCutShort() throws {
    let geometry = Self.geometries[0]
    let (bytes, _, _) = try Self.makeImage(geometry, clean: true)
    for size in stride(from: 0, to: bytes.count, by: 512) {
      let disk = SimulatedDisk(copyOf: Array(bytes[..<size]), isWritable: false)
      let expected: Outcome = .refused(size < 512 ? .notAnImage : .notAuthentic)
      #expect(Self.outcome(disk, expected: []) == expected, "\(size) bytes")
    }
  }
}
