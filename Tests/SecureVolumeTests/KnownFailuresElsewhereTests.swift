import BlockIO
import Crypto
import Glibc
import Primitives
import StorageSimulation
import Testing

@testable import SecureVolume

/// What went wrong in other stores, case by case as Tests/README.md lists them, tried on the volume. Cases that need
/// the stream, the independent reader or the programs are in suites of the same name in FormatTests and ServerTests.
struct KnownFailuresElsewhereTests {
  static let geometry = Geometry(blockSize: 4096, sectorCount: 3) ?? TamperingTests.geometries[0]

  typealias Outcome = TamperingTests.Outcome

  /// A store with three records in its journal, not closed; where each begins, with its length; and the contents after
  /// none, one, two and three of them.
  struct Live {
    let bytes: [UInt8]
    let records: [Range<Int>]
    let contents: [Stamps]
  }

  static func live(key: UInt8 = 1, seed: UInt64 = 0) throws -> Live {
    let disk = SimulatedDisk(size: geometry.imageSize)
    try format(disk, geometry, key: makeKey(key))
    let volume = try open(disk, makeKey(key))
    var contents: [Stamps] = [[0, 0, 0]]
    var records: [Range<Int>] = []
    for sector in 0..<3 {
      let start = Int(geometry.ringOffset + volume.journal.head.position)
      try volume.commit(changes(4096, [(sector, seed + UInt64(sector) + 1)]))
      records.append(start..<Int(geometry.ringOffset + volume.journal.head.position))
      var next = contents[sector]
      next[sector] = seed + UInt64(sector) + 1
      contents.append(next)
    }
    return Live(bytes: disk.bytes, records: records, contents: contents)
  }

  /// How an image of `live` that was changed opens. Losing the end is a loss that is told, never one in the middle.
  static func outcome(_ bytes: [UInt8], _ live: Live) -> Outcome {
    TamperingTests.outcome(
      SimulatedDisk(copyOf: bytes, isWritable: false), expected: live.contents[3], before: nil)
  }

  // MARK: Case 1

  @Test("case 1: sectors, leaves and headers that change places are refused") func case1PartsSwapped() throws {
    let (bytes, content, _) = try TamperingTests.makeImage(Self.geometry, clean: true)
    func outcome(_ change: (inout [UInt8]) -> Void) -> Outcome {
      var changed = bytes
      change(&changed)
      return TamperingTests.outcome(SimulatedDisk(copyOf: changed, isWritable: false), expected: content)
    }
    // Closed after one checkpoint and one more: the table that counts is the first again.
    let (leaf, data) = (Place.leaves(bytes, Self.geometry).lowerBound, Int(Self.geometry.dataOffset))
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
      let sectors = (data + a * 4096..<data + (a + 1) * 4096, data + b * 4096..<data + (b + 1) * 4096)
      let leaves = (leaf + a * 32..<leaf + (a + 1) * 32, leaf + b * 32..<leaf + (b + 1) * 32)
      #expect(outcome { Self.swap(&$0, sectors.0, sectors.1) } == .refused(.notAuthentic))
      #expect(outcome { Self.swap(&$0, leaves.0, leaves.1) } == .refused(.notAuthentic))
      #expect(
        outcome {
          Self.swap(&$0, sectors.0, sectors.1)
          Self.swap(&$0, leaves.0, leaves.1)
        } == .refused(.notAuthentic))
    }
    let (a, b) = (Place.headers[0], Place.headers[1])
    #expect(outcome { Self.swap(&$0, a, b) } == .refused(.notAuthentic))
    // Copy A is whole, and what lies in B's place is no copy B: as after a power cut at the end of closing.
    #expect(outcome { $0.replaceSubrange(b, with: $0[a]) } == .reported)
    #expect(outcome { $0.replaceSubrange(a, with: $0[b]) } == .refused(.notAuthentic))
  }

  static func swap(_ bytes: inout [UInt8], _ a: Range<Int>, _ b: Range<Int>) {
    let (first, second) = (Array(bytes[a]), Array(bytes[b]))
    bytes.replaceSubrange(a, with: second)
    bytes.replaceSubrange(b, with: first)
  }

  @Test("case 1: records that change places, or come from another store under the same key, count for nothing")
  func case1RecordsSwapped() throws {
    let live = try Self.live()
    let other = try Self.live(seed: 40)
    try #require(live.records == other.records)
    for (i, j) in [(0, 1), (0, 2), (1, 2)] {
      var bytes = live.bytes
      Self.swap(&bytes, live.records[i], live.records[j])
      // Where a record that stayed in its place lies behind, the gap proves damage. The last two in each other's
      // place are as if they were cut off, which the report says: not closed cleanly.
      if (i, j) == (1, 2) {
        #expect(try Self.prefix(bytes) == live.contents[1])
      } else {
        #expect(Self.outcome(bytes, live) == .refused(.notAuthentic), "\(i) and \(j)")
      }
    }
    for i in 0..<3 {
      for (name, source) in [
        ("another store", other.bytes[other.records[i]]), ("its neighbour", live.bytes[live.records[(i + 1) % 3]]),
      ] {
        var bytes = live.bytes
        bytes.replaceSubrange(live.records[i], with: source)
        if i == 2 {
          #expect(try Self.prefix(bytes) == live.contents[2], "\(name)")
        } else {
          #expect(Self.outcome(bytes, live) == .refused(.notAuthentic), "record \(i) of \(name)")
        }
      }
    }
  }

  /// What an image holds that lost its end; it must say that it wasn't closed.
  private static func prefix(_ bytes: [UInt8]) throws -> Stamps {
    let volume = try open(SimulatedDisk(copyOf: bytes, isWritable: false), makeKey(1))
    #expect(!volume.opening.wasClosedCleanly)
    return try contents(volume).map { $0 ?? .max }
  }

  @Test("case 1: records of an earlier opening, whole and in their place, count for nothing")
  func case1RecordsOfAnEarlierEpoch() throws {
    let disk = SimulatedDisk(size: Self.geometry.imageSize)
    try format(disk, Self.geometry, key: makeKey(1))
    var volume = try open(disk, makeKey(1))
    for stamp in 1...3 { try volume.commit(changes(4096, [(0, UInt64(stamp))])) }
    let earlier = disk.bytes
    try volume.close()
    volume = try open(disk, makeKey(1))
    try volume.commit(changes(4096, [(1, 9)]))
    let ring = Int(Self.geometry.ringOffset)..<Int(Self.geometry.leafOffset)
    let record = ring.lowerBound + Int(volume.header.cursor.position)
    var bytes = disk.bytes
    let before = bytes
    bytes.replaceSubrange(ring, with: earlier[ring])
    #expect(try contents(open(SimulatedDisk(copyOf: bytes, isWritable: false), makeKey(1))) == [3, 0, 0])
    // Behind the record that counts they are no damage either.
    bytes.replaceSubrange(record..<record + 8192, with: before[record..<record + 8192])
    #expect(try contents(open(SimulatedDisk(copyOf: bytes, isWritable: false), makeKey(1))) == [3, 9, 0])
  }

  @Test("case 1: slots that change places, and those of another store under the same key, open nothing")
  func case1SlotsMoved() throws {
    let (bytes, _, _) = try TamperingTests.makeImage(Self.geometry, clean: true)
    let (other, _, _) = try TamperingTests.makeImage(Self.geometry, clean: true)
    let slot = Format.slotsOffset..<Format.slotsOffset + Format.slotSize
    for source in [bytes, other] {
      for target in [0, 1, 15] {
        var changed = bytes
        for copy in Format.copyOffsets.map({ Int($0) }) {
          changed.replaceSubrange(
            copy + slot.lowerBound..<copy + slot.upperBound, with: [UInt8](repeating: 0, count: Format.slotSize))
          let place = copy + slot.lowerBound + target * Format.slotSize
          changed.replaceSubrange(place..<place + Format.slotSize, with: source[slot])
        }
        if changed == bytes { continue }
        #expect(throws: VolumeError(.wrongKey, store: "", "")) {
          _ = try open(SimulatedDisk(copyOf: changed, isWritable: false), makeKey(1))
        }
      }
    }
  }

  // MARK: Cases 2 and 3

  /// A field of the header: its name, where it is and how long.
  typealias Field = (name: String, offset: Int, count: Int)

  /// What says how far something is: opening, journal, checkpoint, closing.
  static let progress: [Field] = [
    ("flags", 132, 4), ("headerSequence", 136, 8), ("generation", 144, 8), ("epoch", 152, 16), ("ringPosition", 168, 8),
    ("nextSequence", 176, 8), ("chain", 192, 32), ("root", 224, 32), ("anchored", 256, 40), ("lineageCount", 296, 4),
    ("lineage", 304, 2560), ("audit heads", 2864, 512), ("VM binding", 3376, 256),
  ]

  /// What would say that keys are being rotated, that another cipher or none is meant, or what a later version may
  /// mean.
  static let rotation: [Field] = [
    ("reserved 17", 17, 3), ("version", 20, 4), ("suite", 24, 4), ("headerSize", 28, 4), ("slotCount", 32, 4),
    ("slotSize", 36, 4), ("reserved 60", 60, 4), ("features", 120, 8), ("keyEpoch", 184, 4), ("leafTable", 188, 4),
    ("reserved 300", 300, 4), ("previous store key", 3632, 128), ("reserved 3760", 3760, 304),
  ]

  /// What a forgery in both copies ends with, in the order of FORMAT §2.
  private static func refusal(of field: Field, sealed: Bool) -> Status {
    switch field.name {
    case "version", "suite", "headerSize", "slotCount", "slotSize", "features": .notAnImage
    // The wraps are bound to them (§3).
    case "reserved 17", "VM binding": .wrongKey
    case "previous store key": sealed ? .notAnImage : .notAuthentic
    default: .notAuthentic
    }
  }

  /// Values to put into a field: each bit for short ones, some bytes of long ones, all ones, and all zeros where it
  /// had any.
  private static func forgeries(_ field: Field, in header: [UInt8]) -> [[UInt8]] {
    let old = Array(header[field.offset..<field.offset + field.count])
    var all = [[UInt8](repeating: 0xFF, count: field.count), [UInt8](repeating: 0, count: field.count)]
    for bit in stride(from: 0, to: field.count * 8, by: field.count <= 8 ? 1 : 129) {
      var value = old
      value[bit / 8] ^= 1 << UInt8(bit % 8)
      all.append(value)
    }
    return all.filter { $0 != old }
  }

  @Test(
    "case 2 and 3: every progress and rotation field forged without a MAC, in one copy and in both",
    arguments: [true, false])
  func case2And3ForgedWithoutAMAC(clean: Bool) throws {
    let (bytes, content, _) = try TamperingTests.makeImage(Self.geometry, clean: clean)
    var tried = 0
    for field in Self.progress + Self.rotation {
      for copies in [[0], [65536], [0, 65536]] {
        for value in Self.forgeries(field, in: bytes) {
          var forged = bytes
          for copy in copies {
            forged.replaceSubrange(copy + field.offset..<copy + field.offset + field.count, with: value)
          }
          let outcome = TamperingTests.outcome(SimulatedDisk(copyOf: forged, isWritable: false), expected: content)
          tried += 1
          if copies.count == 2 {
            #expect(outcome == .refused(Self.refusal(of: field, sealed: false)), "\(field.name)")
          } else {
            #expect(
              outcome == .reported || outcome == .refused(.notAuthentic), "\(field.name) in \(copies): \(outcome)")
          }
        }
      }
    }
    print("forged header fields without a MAC, \(clean ? "closed" : "not closed"): \(tried) tried")
  }

  @Test("case 3: rotation states and unknown features are refused even with a valid MAC")
  func case3ForgedWithTheStoreKey() throws {
    let disk = SimulatedDisk(size: Self.geometry.imageSize)
    try format(disk, Self.geometry, key: makeKey(1))
    let volume = try open(disk, makeKey(1))
    try volume.commit(changes(4096, [(0, 1), (1, 2), (2, 3)]))
    try volume.close()
    let bytes = disk.bytes
    let flags: Field = ("flags but closed cleanly", 132, 4)
    var tried = 0
    for field in Self.rotation + [flags] {
      for value in Self.forgeries(field, in: bytes) where field.name != flags.name || value[0] & 1 == 1 {
        var forged = bytes
        for copy in Format.copyOffsets.map({ Int($0) }) {
          forged.replaceSubrange(copy + field.offset..<copy + field.offset + field.count, with: value)
          try sealHeader(&forged, copy, volume)
        }
        tried += 1
        let outcome = TamperingTests.outcome(SimulatedDisk(copyOf: forged, isWritable: false), expected: [1, 2, 3])
        #expect(outcome == .refused(Self.refusal(of: field, sealed: true)), "\(field.name): \(outcome)")
      }
    }
    // The check can tell: with nothing forged, what is sealed anew opens.
    var same = bytes
    for copy in Format.copyOffsets.map({ Int($0) }) { try sealHeader(&same, copy, volume) }
    #expect(same == bytes)
    print("forged rotation fields with a valid MAC: \(tried) tried")
  }

  @Test("case 2: leaves that say that they are of another key epoch are refused") func case2ForgedLeaves() throws {
    let (bytes, content, _) = try TamperingTests.makeImage(Self.geometry, clean: true)
    for sector in 0..<3 {
      for byte in 24..<32 {
        for value in [UInt8(0), 1, 2, 255] {
          var forged = bytes
          forged[Place.leaves(bytes, Self.geometry).lowerBound + 32 * sector + byte] = value
          if forged == bytes { continue }
          let outcome = TamperingTests.outcome(SimulatedDisk(copyOf: forged, isWritable: false), expected: content)
          #expect(outcome == .refused(.notAuthentic))
        }
      }
    }
  }

  @Test("case 3: a plain stream, and zeros, in the place of an encrypted store are no store")
  func case3PlaintextTarget() throws {
    let (bytes, _, _) = try TamperingTests.makeImage(Self.geometry, clean: true)
    let stream: [UInt8] = [0x30, 12, 0x0C, 10] + Array("qemu-nvram".utf8)
    for start in [stream, [UInt8](repeating: 0, count: 8192)] {
      var plain = bytes
      for copy in [0, 65536] { plain.replaceSubrange(copy..<copy + start.count, with: start) }
      let outcome = TamperingTests.outcome(SimulatedDisk(copyOf: plain, isWritable: true), expected: [])
      #expect(outcome == .refused(.notAnImage))
    }
  }
}
