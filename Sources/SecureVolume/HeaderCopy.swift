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
    case unsupported(String)
    case notAuthentic
    case geometry
    /// Its MAC verifies, and still it isn't as FORMAT says.
    case malformed
  }

  /// What the structure key says of a copy.
  enum Verdict {
    case valid(Header)
    /// Someone with the key wrote it, and it isn't as FORMAT says.
    case flawed(Flaw)
    /// It doesn't count: the MAC doesn't verify, or it can't be read.
    case other(Flaw)
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

  var hasMagic: Bool { bytes.span(0..<Format.headerMagic.count).equals(Format.headerMagic) }

  /// Version 1, which was never released, had its magic at the file's beginning.
  var isOfVersion1: Bool { bytes.span(0..<Format.ownMagic.count).equals(Format.ownMagic) }

  /// What is wrong with the fields that say what this is, if anything.
  var identityFlaw: Flaw? {
    guard isReadable else { return .unreadable }
    guard hasMagic else { return .noMagic }
    let span = bytes.span
    let version = span.load(UInt32.self, at: 20)
    guard version == Format.version else { return .unsupported("version \(version)") }
    let suite = span.load(UInt32.self, at: 24)
    guard suite == Format.suite else { return .unsupported("cipher suite \(suite)") }
    guard span.load(UInt32.self, at: 28) == UInt32(Format.headerSize),
      span.load(UInt32.self, at: 32) == UInt32(Format.slotCount),
      span.load(UInt32.self, at: 36) == UInt32(Format.slotSize)
    else { return .unsupported("another header size") }
    guard span.load(UInt64.self, at: 120) == 0 else { return .unsupported("unknown features") }
    return nil
  }

  var uuid: StoreUUID { StoreUUID(InlineBytes16(bytes.span, at: 40)) }

  /// The geometry, where all of its numbers are those of FORMAT §1.
  var geometry: Geometry? {
    let span = bytes.span
    guard
      let geometry = Geometry(
        blockSize: Int(span.load(UInt32.self, at: 56)), sectorCount: span.load(UInt64.self, at: 64)),
      span.load(UInt64.self, at: 72) == geometry.ringOffset,
      span.load(UInt64.self, at: 80) == geometry.ringSize,
      span.load(UInt64.self, at: 88) == geometry.leafOffset,
      span.load(UInt64.self, at: 96) == geometry.leafTableSize,
      span.load(UInt64.self, at: 104) == geometry.dataOffset,
      span.load(UInt64.self, at: 112) == geometry.imageSize.value
    else { return nil }
    return geometry
  }

  var isClean: Bool { bytes.span.load(UInt32.self, at: 132) & Format.cleanFlag != 0 }
  var sequence: UInt64 { bytes.span.load(UInt64.self, at: 136) }
  var generation: Generation { Generation(bytes.span.load(UInt64.self, at: 144)) }

  /// The leaf table that it names; 0 where it names none.
  var claimedTable: Int { bytes.span.load(UInt32.self, at: 188) == 1 ? 1 : 0 }

  @_lifetime(borrow self)
  func slotBytes(_ index: Int) -> Span<UInt8> {
    let start = Format.slotsOffset + index * Format.slotSize
    return bytes.span(start..<start + Format.slotSize)
  }

  /// The slot at `index`, where its bytes are as FORMAT §3 says; `nil` where it is empty or malformed.
  func slot(_ index: Int) -> KeySlot? { KeySlot(parsing: slotBytes(index)) }

  private var slotContext: SlotContext {
    SlotContext(identity: bytes.span(0..<Format.identitySize).array, binding: bytes.span(Format.binding).array)
  }

  /// Whether keys of a kind are tried on the slots at all.
  func isTried(with kind: SlotKind) -> Bool {
    identityFlaw == nil && (kind != .passphrase || passphraseCost <= Format.passphraseCostLimit)
  }

  /// Tries to unwrap the store key from one slot.
  func unwrap(slot index: Int, with key: borrowing KeyEncryptionKey) throws(CryptoError) -> SecretBytes? {
    guard isTried(with: key.kind) else { return nil }
    return try KeySlot.unwrap(slotBytes(index), with: key, context: slotContext, index: index)
  }

  /// What trying all passphrase slots takes.
  private var passphraseCost: UInt64 {
    var cost: UInt64 = 0
    for index in 0..<Format.slotCount { cost += KeySlot.passphraseCost(slotBytes(index)) }
    return cost
  }

  /// The header, if this copy is what the holder of the store key wrote in this place.
  func verified(with structure: inout StructureMAC) throws(CryptoError) -> Verdict {
    guard isReadable else { return .other(.unreadable) }
    guard hasMagic else { return .other(.noMagic) }
    try structure.startInput(.header)
    try structure.update(bytes, 0..<Format.headerMACOffset)
    let mac = try structure.finish()
    // With the other place's number it is what a disk with large blocks may leave there when power goes.
    guard ConstantTime.equals(mac, InlineBytes32(bytes.span, at: Format.headerMACOffset)),
      bytes.span.load(UInt32.self, at: 128) == UInt32(index)
    else { return .other(identityFlaw ?? .notAuthentic) }
    // From here on only someone with the store key wrote this; what is wrong now is another program's doing.
    if let flaw = identityFlaw { return .flawed(flaw) }
    guard let geometry else { return .flawed(.geometry) }
    guard let header = parse(geometry) else { return .flawed(.malformed) }
    guard bytes.span(Format.previousKey).isZero else { return .flawed(.unsupported("a rotation under way")) }
    return .valid(header)
  }

  /// `nil` unless writing the header again gives the same bytes, but for a previous store key: so reserved fields are
  /// zero and slots well-formed.
  private func parse(_ geometry: Geometry) -> Header? {
    let span = bytes.span
    guard let lineage = Lineage(parsing: span) else { return nil }
    let header = Header(
      uuid: uuid, geometry: geometry, isClean: isClean, sequence: sequence,
      generation: generation, epoch: InlineBytes16(span, at: 152),
      cursor: JournalCursor(
        position: span.load(UInt64.self, at: 168), sequence: span.load(UInt64.self, at: 176),
        chain: InlineBytes32(span, at: 192)),
      leafTable: Int(span.load(UInt32.self, at: 188)), root: InlineBytes32(span, at: 224), lineage: lineage,
      auditHeads: span.extracting(Format.auditHeads).array, binding: span.extracting(Format.binding).array,
      slots: (0..<Format.slotCount).map { slot($0) })
    let again = header.encode(copy: index)
    let (first, second) = (0..<Format.previousKey.lowerBound, Format.previousKey.upperBound..<Format.headerMACOffset)
    guard again.span(first).equals(span.extracting(first)), again.span(second).equals(span.extracting(second)),
      max(header.sequence, header.generation.value, header.cursor.sequence) < Format.numberLimit,
      header.cursor.sequence > 0, (0...1).contains(header.leafTable),
      header.cursor.position % UInt64(geometry.blockSize) == 0, header.cursor.position < geometry.ringSize,
      header.auditHeadsAreWellFormed, header.bindingIsWellFormed, passphraseCost <= Format.passphraseCostLimit,
      Set(header.slots.compactMap { $0.map { Array($0.name.utf8) } }).count == header.slots.count(where: { $0 != nil })
    else { return nil }
    return header
  }
}

extension Header {
  /// Used heads first, each with its reserved bytes zero and a number below the limit.
  fileprivate var auditHeadsAreWellFormed: Bool {
    let heads = auditHeads.span
    var isEnd = false
    for start in stride(from: 0, to: heads.count, by: 64) {
      let head = heads.extracting(start..<start + 64)
      guard head.extracting(56..<64).isZero, head.load(UInt64.self, at: 16) < Format.numberLimit else { return false }
      if isEnd, !head.isZero { return false }
      isEnd = isEnd || head.isZero
    }
    return true
  }

  /// A UUID, and a name with zeros behind it.
  fileprivate var bindingIsWellFormed: Bool {
    let bytes = binding.span
    let length = bytes.load(UInt32.self, at: 16)
    guard length <= 236, bytes.extracting(20 + Int(length)..<bytes.count).isZero,
      let name = String(validating: bytes.extracting(20..<20 + Int(length)).array, as: UTF8.self)
    else { return false }
    return name.unicodeScalars.allSatisfy { $0.value >= 0x20 && !(0x7F..<0xA0).contains($0.value) }
  }
}
