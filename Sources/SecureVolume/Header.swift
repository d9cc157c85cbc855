import Crypto
import Primitives

/// What both copies of a header say (FORMAT §2). Only `HeaderCopy.verified` makes one from an image's bytes, after its
/// MAC verified; only `HeaderWriting` writes one.
struct Header: Equatable, Sendable {
  let uuid: StoreUUID
  let geometry: Geometry
  var isClean: Bool
  var sequence: UInt64
  var generation: Generation
  var epoch: InlineBytes16
  /// Where in the ring the next record starts, and what it must carry.
  var cursor: JournalCursor
  /// Which leaf table counts, 0 or 1.
  var leafTable = 0
  var root: InlineBytes32
  var lineage = Lineage()
  /// Bytes that later versions use: carried over.
  var auditHeads = [UInt8](repeating: 0, count: Format.auditHeads.count)
  /// The VM that the store is bound to, as it lies there; zeros where it is not.
  var binding = [UInt8](repeating: 0, count: Format.binding.count)
  /// By slot index; `nil` where empty.
  var slots: [KeySlot?]

  /// The bytes of one copy but for the MAC, which is zero.
  func encode(copy: Int) -> ByteBuffer {
    var out = ByteBuffer(count: geometry.headerSpace)
    Self.encodeIdentity(uuid, to: &out)
    out.store(UInt32(geometry.blockSize), at: 56)
    out.store(geometry.sectorCount, at: 64)
    out.store(geometry.ringOffset, at: 72)
    out.store(geometry.ringSize, at: 80)
    out.store(geometry.leafOffset, at: 88)
    out.store(geometry.leafTableSize, at: 96)
    out.store(geometry.dataOffset, at: 104)
    out.store(geometry.imageSize.value, at: 112)
    out.store(UInt32(copy), at: 128)
    out.store(isClean ? Format.cleanFlag : 0, at: 132)
    out.store(sequence, at: 136)
    out.store(generation.value, at: 144)
    out.store(epoch, at: 152)
    out.store(cursor.position, at: 168)
    out.store(cursor.sequence, at: 176)
    out.store(Format.keyEpoch, at: 184)
    out.store(UInt32(leafTable), at: 188)
    out.store(cursor.chain, at: 192)
    out.store(root, at: 224)
    lineage.encode(to: &out)
    out.copy(from: auditHeads, at: Format.auditHeads.lowerBound)
    out.copy(from: binding, at: Format.binding.lowerBound)
    for (index, slot) in slots.enumerated() {
      slot?.encode(to: &out, at: Format.slotsOffset + index * Format.slotSize)
    }
    return out
  }

  /// The first 56 bytes: format and store.
  static func encodeIdentity(_ uuid: StoreUUID, to out: inout ByteBuffer) {
    out.copy(from: Format.headerMagic)
    out.store(Format.version, at: 20)
    out.store(Format.suite, at: 24)
    out.store(UInt32(Format.headerSize), at: 28)
    out.store(UInt32(Format.slotCount), at: 32)
    out.store(UInt32(Format.slotSize), at: 36)
    out.store(uuid.bytes, at: 40)
  }

  /// What a slot's wrap is bound to beside its own bytes: the store, and the VM (FORMAT §3).
  var slotContext: SlotContext {
    var identity = ByteBuffer(count: Format.identitySize)
    Self.encodeIdentity(uuid, to: &identity)
    return SlotContext(identity: identity.span.array, binding: binding)
  }

  /// SHA-256 over the part that never changes: what ties every MAC to this store and this layout.
  static func geometryDigest(uuid: StoreUUID, geometry: Geometry) throws(CryptoError) -> InlineBytes32 {
    let header = Header(
      uuid: uuid, geometry: geometry, isClean: true, sequence: 0, generation: Generation(0), epoch: InlineBytes16(),
      cursor: JournalCursor(position: 0, sequence: 0, chain: InlineBytes32()), root: InlineBytes32(), slots: [])
    let bytes = header.encode(copy: 0)
    return try Digest.sha256(bytes.span(0..<Format.geometryPart))
  }
}

/// The place of a record yet to come: where it starts, its number, and the MAC of the one before.
struct JournalCursor: Equatable, Sendable {
  var position: UInt64
  var sequence: UInt64
  var chain: InlineBytes32
}
