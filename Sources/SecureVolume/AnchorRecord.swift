import Crypto
import Primitives

/// What an anchor remembers of a store (FORMAT §12): what both copies of a header said, durably, at one moment. Sealed
/// under the structure key, so that a damaged record, or another store's, is never believed.
public struct AnchorRecord: Equatable, Sendable {
  public static let size = 256

  public let uuid: StoreUUID
  /// One more with each record that an anchor takes: of two authentic ones this tells which is newer.
  public var sequence: UInt64
  public var headerSequence: UInt64
  public var generation: Generation
  public var epoch: InlineBytes16
  public var root: InlineBytes32
  /// The value of the header's newest lineage entry.
  public var lineage: InlineBytes32
  /// The value of a counter outside that this record goes with; 0 where there is none.
  public var counter: UInt64

  init(of header: Header, sequence: UInt64, counter: UInt64) {
    uuid = header.uuid
    self.sequence = sequence
    headerSequence = header.sequence
    generation = header.generation
    epoch = header.epoch
    root = header.root
    lineage = header.lineage.newest
    self.counter = counter
  }

  /// `nil` for bytes that aren't a record as FORMAT has it. Says nothing of who wrote it.
  public init?(parsing bytes: Span<UInt8>) {
    guard bytes.count == Self.size, bytes.extracting(0..<8).equals(Format.anchorMagic),
      bytes.load(UInt32.self, at: 8) == Format.anchorVersion, bytes.extracting(12..<16).isZero,
      bytes.extracting(144..<Format.anchorMACOffset).isZero
    else { return nil }
    uuid = StoreUUID(InlineBytes16(bytes, at: 16))
    sequence = bytes.load(UInt64.self, at: 32)
    headerSequence = bytes.load(UInt64.self, at: 40)
    generation = Generation(bytes.load(UInt64.self, at: 48))
    epoch = InlineBytes16(bytes, at: 56)
    counter = bytes.load(UInt64.self, at: 72)
    root = InlineBytes32(bytes, at: 80)
    lineage = InlineBytes32(bytes, at: 112)
    // No store gets there by counting.
    guard sequence > 0, max(sequence, headerSequence, generation.value, counter) < Format.numberLimit else {
      return nil
    }
  }

  /// The bytes with their MAC.
  func sealed(digest: InlineBytes32, with structure: inout StructureMAC) throws(CryptoError) -> ByteBuffer {
    var out = ByteBuffer(count: Self.size)
    out.copy(from: Format.anchorMagic)
    out.store(Format.anchorVersion, at: 8)
    out.store(uuid.bytes, at: 16)
    out.store(sequence, at: 32)
    out.store(headerSequence, at: 40)
    out.store(generation.value, at: 48)
    out.store(epoch, at: 56)
    out.store(counter, at: 72)
    out.store(root, at: 80)
    out.store(lineage, at: 112)
    try structure.startInput(.anchor)
    try structure.update(digest)
    try structure.update(out, 0..<Format.anchorMACOffset)
    let mac = try structure.finish()
    out.store(mac, at: Format.anchorMACOffset)
    return out
  }

  /// The record, if the holder of this store's key wrote it for this store.
  static func verified(
    _ bytes: [UInt8], uuid: StoreUUID, digest: InlineBytes32, with structure: inout StructureMAC
  ) throws(CryptoError) -> AnchorRecord? {
    guard let record = AnchorRecord(parsing: bytes.span), record.uuid == uuid else { return nil }
    try structure.startInput(.anchor)
    try structure.update(digest)
    try structure.update(bytes.span.extracting(0..<Format.anchorMACOffset))
    let mac = try structure.finish()
    return ConstantTime.equals(mac, InlineBytes32(bytes.span, at: Format.anchorMACOffset)) ? record : nil
  }

  /// Whether it is the next one after `earlier` of the same store, and nothing in it goes back.
  public func follows(_ earlier: AnchorRecord) -> Bool {
    uuid == earlier.uuid && sequence == earlier.sequence + 1 && headerSequence >= earlier.headerSequence
      && generation >= earlier.generation && counter >= earlier.counter
  }

  /// The newest of what the holder of this store's key wrote; nil where there is none.
  static func newest(
    of records: [[UInt8]], uuid: StoreUUID, digest: InlineBytes32, with structure: inout StructureMAC
  ) throws(CryptoError) -> NewestRecord? {
    var newest: NewestRecord?
    for (index, bytes) in records.enumerated() {
      guard let record = try verified(bytes, uuid: uuid, digest: digest, with: &structure) else { continue }
      if let known = newest, record.sequence <= known.record.sequence {
        if record.sequence > known.other?.sequence ?? 0 { newest?.other = record }
      } else {
        newest = NewestRecord(index: index, record: record, other: newest?.record)
      }
    }
    return newest
  }
}

/// The authentic record of an anchor that counts, and what else is there.
public struct NewestRecord: Sendable {
  public let index: Int
  public let record: AnchorRecord
  /// The newest of the others that are authentic, too.
  public internal(set) var other: AnchorRecord?

  public init(index: Int, record: AnchorRecord, other: AnchorRecord? = nil) {
    (self.index, self.record, self.other) = (index, record, other)
  }

  /// Two of one number that differ: no writer leaves that, and neither counts.
  public var isContradicted: Bool { other.map { $0.sequence == record.sequence && $0 != record } ?? false }

  /// The generation that none of them is beyond.
  var generation: Generation { max(record.generation, other?.generation ?? record.generation) }
}
