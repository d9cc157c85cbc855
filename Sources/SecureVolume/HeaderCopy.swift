import Crypto
import Primitives

/// The bytes of one header copy as they were read: nothing in it is believed until `verified` has checked its MAC,
/// save that a wrapped key may be tried (FORMAT §3) and that `info` may show it as not authenticated.
struct HeaderCopy: ~Copyable, Sendable {
  /// Why a copy does not count.
  enum Flaw: Equatable, Sendable {
    /// Reading it failed: it may be anything, the newest header among them.
    case unreadable
    case noMagic
    case unsupportedVersion(String)
    case notAuthentic
    case geometry
    /// Its MAC verifies, and still it isn't as FORMAT says.
    case malformed
  }

  /// 0 for A, 1 for B.
  let index: Int
  let bytes: ByteBuffer
  let isReadable: Bool

  /// `bytes` must be `Format.headerSize` long; zeros where it is not readable.
  init(index: Int, bytes: consuming ByteBuffer, isReadable: Bool = true) {
    precondition(bytes.count == Format.headerSize)
    self.index = index
    self.isReadable = isReadable
    self.bytes = bytes
  }

  var hasMagic: Bool { bytes.span(0..<8).equals(Format.headerMagic) }

  /// What is wrong with the fields that say what this is, if anything.
  var identityFlaw: Flaw? {
    guard isReadable else { return .unreadable }
    guard hasMagic else { return .noMagic }
    let span = bytes.span
    let version = span.load(UInt32.self, at: 8)
    guard version == Format.version else { return .unsupportedVersion("version \(version)") }
    let suite = span.load(UInt32.self, at: 12)
    guard suite == Format.suite else { return .unsupportedVersion("cipher suite \(suite)") }
    guard span.load(UInt32.self, at: 16) == UInt32(Format.headerSize),
      span.load(UInt32.self, at: 20) == UInt32(Format.slotCount)
    else { return .unsupportedVersion("another header size") }
    guard span.load(UInt64.self, at: 104) == 0 else { return .unsupportedVersion("unknown features") }
    return nil
  }

  var uuid: StoreUUID { StoreUUID(InlineBytes16(bytes.span, at: 24)) }

  /// The geometry, where all of its numbers are those of FORMAT §1.
  var geometry: Geometry? {
    let span = bytes.span
    guard
      let geometry = Geometry(
        sectorSize: Int(span.load(UInt32.self, at: 40)), blockSize: Int(span.load(UInt32.self, at: 44)),
        sectorCount: span.load(UInt64.self, at: 48)),
      span.load(UInt64.self, at: 56) == geometry.ringOffset,
      span.load(UInt64.self, at: 64) == geometry.ringSize,
      span.load(UInt64.self, at: 72) == geometry.leafOffset,
      span.load(UInt64.self, at: 80) == geometry.leafTableSize,
      span.load(UInt64.self, at: 88) == geometry.dataOffset,
      span.load(UInt64.self, at: 96) == geometry.imageSize.value
    else { return nil }
    return geometry
  }

  var isClean: Bool { bytes.span.load(UInt32.self, at: 132) & Format.cleanFlag != 0 }
  var generation: Generation { Generation(bytes.span.load(UInt64.self, at: 144)) }

  @_lifetime(borrow self)
  func slotBytes(_ index: Int) -> Span<UInt8> {
    let start = Format.slotsOffset + index * Format.slotSize
    return bytes.span(start..<start + Format.slotSize)
  }

  /// The slot at `index`, where its bytes are as FORMAT §3 says; `nil` where it is empty or malformed.
  func slot(_ index: Int) -> KeySlot? { KeySlot(parsing: slotBytes(index)) }

  /// Tries to unwrap the store key from one slot.
  func unwrap(slot index: Int, with key: borrowing KeyEncryptionKey) throws(CryptoError) -> SecretBytes? {
    guard identityFlaw == nil else { return nil }
    return try KeySlot.unwrap(
      slotBytes(index), with: key, identity: bytes.span(0..<Format.identitySize), index: index)
  }

  /// The header, if this copy is what the holder of the store key wrote in this place.
  func verified(with structure: inout StructureMAC) throws(CryptoError) -> Result<Header, FlawError> {
    if let flaw = identityFlaw { return .failure(FlawError(flaw: flaw)) }
    try structure.startInput(.header)
    try structure.update(bytes, 0..<Format.headerMACOffset)
    let mac = try structure.finish()
    guard ConstantTime.equals(mac, InlineBytes32(bytes.span, at: Format.headerMACOffset)) else {
      return .failure(FlawError(flaw: .notAuthentic))
    }
    // Authentic, but the other place's: what a disk with large blocks may leave there when power goes.
    guard bytes.span.load(UInt32.self, at: 128) == UInt32(index) else {
      return .failure(FlawError(flaw: .notAuthentic))
    }
    // From here on only someone with the store key wrote this; what is wrong now is another program's doing.
    guard let geometry else { return .failure(FlawError(flaw: .geometry)) }
    guard let header = parse(geometry) else { return .failure(FlawError(flaw: .malformed)) }
    return .success(header)
  }

  /// `nil` unless writing the header again gives the same bytes: so reserved fields are zero and slots well-formed.
  private func parse(_ geometry: Geometry) -> Header? {
    let span = bytes.span
    let header = Header(
      uuid: uuid, geometry: geometry, isClean: isClean, sequence: span.load(UInt64.self, at: 136),
      generation: generation, epoch: InlineBytes16(span, at: 152),
      cursor: JournalCursor(
        position: span.load(UInt64.self, at: 168), sequence: span.load(UInt64.self, at: 176),
        chain: InlineBytes32(span, at: 192)),
      root: InlineBytes32(span, at: 224), slots: (0..<Format.slotCount).map { slot($0) })
    let again = header.encode(copy: index)
    guard again.span(0..<Format.headerMACOffset).equals(span.extracting(0..<Format.headerMACOffset)),
      // No store gets there by counting.
      max(header.sequence, header.generation.value, header.cursor.sequence) < 1 << 63,
      header.cursor.position % UInt64(geometry.blockSize) == 0, header.cursor.position < geometry.ringSize,
      Set(header.slots.compactMap { $0.map { Array($0.name.utf8) } }).count == header.slots.count(where: { $0 != nil })
    else { return nil }
    return header
  }
}

/// A flaw as an error, for `Result`.
struct FlawError: Error { let flaw: HeaderCopy.Flaw }
