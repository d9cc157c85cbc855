import Crypto
import Primitives

/// The fixed part of a journal record (FORMAT §7).
struct JournalRecord: Sendable {
  enum Kind: UInt32, Sendable {
    case commit = 1
    case images = 2
  }

  let kind: Kind
  let count: Int
  let generation: Generation
  let epoch: InlineBytes16
  let cursor: JournalCursor
  let root: InlineBytes32

  /// Offset of the MAC, and of the payload behind it.
  var macOffset: Int { Format.recordHeaderSize + count * Format.recordEntrySize }
  var payloadOffset: Int { macOffset + Format.macSize }

  /// What one entry's payload takes, in bytes.
  func unit(_ geometry: Geometry) -> Int { kind == .commit ? geometry.sectorSize : geometry.blockSize }

  /// With its padding, in bytes.
  func size(_ geometry: Geometry) -> UInt64 {
    geometry.recordSize(entries: UInt64(count), payload: UInt64(count * unit(geometry)))
  }

  static func entryOffset(_ index: Int) -> Int { Format.recordHeaderSize + index * Format.recordEntrySize }

  /// Writes the fixed part; the entries are the caller's.
  func encode(to out: inout ByteBuffer, geometry: Geometry) {
    out.copy(from: Format.recordMagic)
    out.store(kind.rawValue, at: 8)
    out.store(UInt32(count), at: 12)
    out.store(cursor.sequence, at: 16)
    out.store(generation.value, at: 24)
    out.store(epoch, at: 32)
    out.store(cursor.chain, at: 48)
    out.store(cursor.position, at: 80)
    out.store(UInt64(count * unit(geometry)), at: 88)
    out.store(root, at: 96)
    out.wipe(128..<Format.recordHeaderSize)
  }

  /// The fixed part of what may be a record: magic, type, and a count within the limits, so that the MAC can be found.
  /// Whether it is authentic, the one expected here, and well-formed, is the caller's to find out.
  init?(parsing bytes: Span<UInt8>, geometry: Geometry) {
    guard bytes.extracting(0..<8).equals(Format.recordMagic),
      let kind = Kind(rawValue: bytes.load(UInt32.self, at: 8))
    else { return nil }
    let count = UInt64(bytes.load(UInt32.self, at: 12))
    let most = kind == .commit ? geometry.sectorCount : geometry.imageBlocks
    guard count >= 1, count <= most else { return nil }
    self.kind = kind
    self.count = Int(count)
    generation = Generation(bytes.load(UInt64.self, at: 24))
    epoch = InlineBytes16(bytes, at: 32)
    cursor = JournalCursor(
      position: bytes.load(UInt64.self, at: 80), sequence: bytes.load(UInt64.self, at: 16),
      chain: InlineBytes32(bytes, at: 48))
    root = InlineBytes32(bytes, at: 96)
  }

  /// Whether the rest of the fixed part is as FORMAT has it: a question for authentic records.
  func isWellFormed(_ bytes: borrowing ByteBuffer, _ geometry: Geometry) -> Bool {
    bytes.load(UInt64.self, at: 88) == UInt64(count * unit(geometry))
      && (kind == .images || root == InlineBytes32()) && bytes.span(128..<Format.recordHeaderSize).isZero
  }

  init(
    kind: Kind, count: Int, generation: Generation, epoch: InlineBytes16, cursor: JournalCursor,
    root: InlineBytes32 = InlineBytes32()
  ) {
    self.kind = kind
    self.count = count
    self.generation = generation
    self.epoch = epoch
    self.cursor = cursor
    self.root = root
  }

  /// The MAC over the fixed part and the entries in `bytes`.
  func mac(
    _ bytes: borrowing ByteBuffer, digest: InlineBytes32, with mac: inout StructureMAC
  ) throws(CryptoError) -> InlineBytes32 {
    try mac.startInput(.record)
    try mac.update(digest)
    try mac.update(bytes, 0..<macOffset)
    return try mac.finish()
  }

  /// The MAC of a block in a record of images.
  static func imageMAC(
    _ buffer: borrowing ByteBuffer, _ block: Range<Int>, offset: UInt64, digest: InlineBytes32,
    with mac: inout StructureMAC
  ) throws(CryptoError) -> InlineBytes32 {
    try mac.startInput(.image)
    try mac.update(digest)
    try mac.update(offset)
    try mac.update(buffer, block)
    return try mac.finish()
  }
}
