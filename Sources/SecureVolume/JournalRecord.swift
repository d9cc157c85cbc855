import Crypto
import Primitives

/// The head of a journal record (FORMAT §7): what precedes its payload, but for the entries, which stay in the buffer
/// that it was parsed from or is put together in.
struct JournalRecord: Sendable {
  let count: Int
  let generation: Generation
  let epoch: InlineBytes16
  let cursor: JournalCursor

  init(count: Int, generation: Generation, epoch: InlineBytes16, cursor: JournalCursor) {
    (self.count, self.generation, self.epoch, self.cursor) = (count, generation, epoch, cursor)
  }

  /// Offset of the MAC.
  var macOffset: Int { Self.entryOffset(count) }
  /// Bytes up to the MAC's end.
  var headBytes: Int { macOffset + Format.macSize }

  static func entryOffset(_ index: Int) -> Int { Format.recordHeaderSize + index * Format.recordEntrySize }

  static func storeEntry(_ index: Int, _ sector: SectorIndex, _ leaf: Leaf, to out: inout ByteBuffer) {
    out.store(sector.value, at: entryOffset(index))
    leaf.encode(to: &out, at: entryOffset(index) + 8)
  }

  static func entry(_ index: Int, of head: borrowing ByteBuffer) -> (sector: SectorIndex, leaf: Leaf) {
    let start = entryOffset(index)
    return (SectorIndex(head.load(UInt64.self, at: start)), Leaf(head, at: start + 8))
  }

  /// Writes the fixed part; the entries are the caller's.
  func encode(to out: inout ByteBuffer) {
    out.copy(from: Format.recordMagic)
    out.store(Format.recordType, at: 8)
    out.store(UInt32(count), at: 12)
    out.store(cursor.sequence, at: 16)
    out.store(generation.value, at: 24)
    out.store(epoch, at: 32)
    out.store(cursor.chain, at: 48)
    out.store(cursor.position, at: 80)
    out.wipe(88..<Format.recordHeaderSize)
  }

  /// The fixed part of what may be a record: magic, type, and a count within the limits, so that the MAC can be found.
  /// Whether it is authentic, the one expected here, and well-formed, is the caller's to find out.
  init?(parsing bytes: Span<UInt8>, geometry: Geometry) {
    guard bytes.extracting(0..<8).equals(Format.recordMagic), bytes.load(UInt32.self, at: 8) == Format.recordType
    else { return nil }
    let count = UInt64(bytes.load(UInt32.self, at: 12))
    guard count >= 1, count <= geometry.sectorCount else { return nil }
    self.count = Int(count)
    generation = Generation(bytes.load(UInt64.self, at: 24))
    epoch = InlineBytes16(bytes, at: 32)
    cursor = JournalCursor(
      position: bytes.load(UInt64.self, at: 80), sequence: bytes.load(UInt64.self, at: 16),
      chain: InlineBytes32(bytes, at: 48))
  }

  /// Whether what is authentic is as FORMAT has it: reserved bytes zero, numbers within the limits, and the entries
  /// sectors of this volume in ascending order, with leaves as they are now.
  func isWellFormed(_ head: borrowing ByteBuffer, _ geometry: Geometry) -> Bool {
    guard head.span(88..<Format.recordHeaderSize).isZero, max(cursor.sequence, generation.value) < Format.numberLimit
    else { return false }
    var next: UInt64 = 0
    for i in 0..<count {
      let (sector, leaf) = Self.entry(i, of: head)
      guard sector.value >= next, sector.value < geometry.sectorCount, leaf.isWellFormed,
        head.load(UInt32.self, at: Self.entryOffset(i) + 36) == 0
      else { return false }
      next = sector.value + 1
    }
    return true
  }

  /// The MAC over the fixed part and the entries in `head`.
  func mac(
    _ head: borrowing ByteBuffer, digest: InlineBytes32, with mac: inout StructureMAC
  ) throws(CryptoError) -> InlineBytes32 {
    try mac.startInput(.record)
    try mac.update(digest)
    try mac.update(head, 0..<macOffset)
    return try mac.finish()
  }
}
