import BlockIO
import Crypto
import Primitives
import StorageSimulation
import Testing

@testable import SecureVolume

/// One strictness (FORMAT §7): whoever reads an image, with its lock or without, for reading, for writing or for a
/// copy, refuses the same for the same reason, and nothing is written.
struct StrictReadingTests {
  static let geometry = Geometry(blockSize: 4096, sectorCount: 6)

  /// Every way to read an image.
  private static func readings(_ bytes: [UInt8]) -> [(String, () throws -> Void)] {
    func target() -> SimulatedDisk { SimulatedDisk(size: ByteCount(bytes.count)) }
    let disk = SimulatedDisk(copyOf: bytes, isWritable: false)
    return [
      ("for reading", { _ = try contents(open(disk, makeKey(1))) }),
      ("a copy", { _ = try SealedVolume(disk).unlock(with: makeKey(1)).copy(to: target()) }),
      ("beside a writer", { _ = try contents(open(UnlockedView(disk), makeKey(1))) }),
      ("a copy beside a writer", { _ = try open(UnlockedView(disk), makeKey(1)).copy(to: target()) }),
      (
        "for writing",
        {
          let own = SimulatedDisk(copyOf: bytes)
          defer { if own.writes > 0 { Issue.record("a damaged image was written to") } }
          _ = try open(own, makeKey(1))
        }
      ),
    ]
  }

  private func expectRefused(_ bytes: [UInt8], _ evidence: VolumeError.Evidence, _ what: String) {
    for (name, read) in Self.readings(bytes) {
      let error = thrownError(read)
      #expect(error?.code == .notAuthentic(evidence), "\(what), \(name): \(error?.description ?? "it opened")")
    }
  }

  /// A store with fourteen records in its journal, where each begins, and the store's open volume.
  private func live() throws -> (bytes: [UInt8], records: [Int], volume: SecureVolume) {
    let geometry = try #require(Self.geometry)
    let disk = SimulatedDisk(size: geometry.imageSize)
    try format(disk, geometry, key: makeKey(1))
    let volume = try open(disk, makeKey(1))
    var records: [Int] = []
    for step in 0..<14 {
      records.append(Place.ring + Int(volume.journal.head.position))
      try volume.commit(changes(4096, [(step % 5, UInt64(step + 1)), (5, UInt64(step + 1))]))
    }
    return (disk.bytes, records, volume)
  }

  @Test func aWholeJournalIsReadByAll() throws {
    let (bytes, _, _) = try live()
    for (name, read) in Self.readings(bytes).dropLast() { #expect(thrownError(read) == nil, "\(name)") }
  }

  /// A bit of the fourth of fourteen records: of its fixed part, entries, MAC, first and last sector.
  @Test func aBitOfARecordInTheMiddle() throws {
    let (bytes, records, _) = try live()
    for byte in [0, 9, 12, 16, 24, 32, 48, 80, 100, 128, 150, 167, 208, 239, 4096, 8191, 8192, 12287] {
      var damaged = bytes
      damaged[records[3] + byte] ^= 0x10
      expectRefused(damaged, .journal, "byte \(byte) of record 4 of 14")
    }
    // Its padding means nothing.
    var padding = bytes
    padding[records[3] + 240] ^= 1
    #expect(thrownError(Self.readings(padding)[0].1) == nil)
  }

  /// What one with the store key could put into a journal, and no writer does.
  @Test func forgedJournals() throws {
    let (bytes, records, volume) = try live()
    typealias Forgery = (name: String, offset: Int, value: [UInt8])
    let forgeries: [Forgery] = [
      ("reserved", 88, [1]), ("reserved, its last byte", 127, [1]), ("generation", 24, [99]),
      ("generation at its limit", 24, [0, 0, 0, 0, 0, 0, 0, 0x80]), ("the MAC of the record before", 48, [1]),
      ("a sector that isn't there", 128, [6]), ("a sector far away", 128, [0, 0, 0, 0, 0, 0, 0, 0x80]),
      ("sectors that don't ascend", 128, [5]), ("a leaf of another key epoch", 160, [2]),
      ("a leaf's reserved bytes", 164, [1]),
    ]
    for forgery in forgeries {
      for record in [0, 3, 13] {
        var forged = bytes
        let start = records[record] + forgery.offset
        forged.replaceSubrange(start..<start + forgery.value.count, with: forgery.value)
        if forged == bytes { continue }
        try sealRecord(&forged, records[record], count: 2, volume)
        expectRefused(forged, .journal, "\(forgery.name), in record \(record + 1)")
      }
    }
    // A number too many, and a record of the number before, again: the end is damaged, since a later record is whole.
    for (name, sequence) in [("a gap", UInt8(15)), ("far ahead", 200)] {
      var forged = bytes
      forged[records[13] + 16] = sequence
      try sealRecord(&forged, records[13], count: 2, volume)
      expectRefused(forged, .journal, "\(name) in the numbers")
    }
    var same = bytes
    try sealRecord(&same, records[3], count: 2, volume)
    #expect(same == bytes, "what is sealed anew with nothing forged is what was there")
  }

  /// Another store's header as copy B, whole and under the same kernel key; and its parts in it, with a MAC that
  /// verifies.
  @Test(arguments: [true, false]) func anotherStoresHeader(clean: Bool) throws {
    let geometry = try #require(Self.geometry)
    func make() throws -> (SimulatedDisk, SecureVolume) {
      let disk = SimulatedDisk(size: geometry.imageSize)
      try format(disk, geometry, key: makeKey(1))
      let volume = try open(disk, makeKey(1))
      try volume.commit(changes(4096, [(0, 1)]))
      if clean { try volume.close() }
      return (disk, volume)
    }
    let (disk, volume) = try make()
    let (other, _) = try make()
    var spliced = disk.bytes
    spliced.replaceSubrange(Place.headers[1], with: other.bytes[Place.headers[1]])
    expectRefused(spliced, .headerPair, "another store's header as copy B")
    for (name, offset, value) in [
      ("features", 120, [1]), ("another uuid", 40, [0xFF, 0xFE]), ("other sizes", 64, [7]),
      ("another block size", 57, [0x20]),
      ("reserved", 60, [1]), ("reserved behind the magic", 17, [1]),
    ] as [(String, Int, [UInt8])] {
      var forged = disk.bytes
      let start = 65536 + offset
      forged.replaceSubrange(start..<start + value.count, with: value)
      try sealHeader(&forged, 65536, volume)
      expectRefused(forged, .headerPair, "\(name) in copy B")
    }
  }
}
