import Crypto
import Primitives

/// Everything that can be done with the store key: the keys derived from it (FORMAT §4), ready for use. Gone, and
/// wiped, with this value.
struct VolumeKeys: ~Copyable, Sendable {
  let storeKey: SecretBytes
  let uuid: StoreUUID
  var sectors: SectorSealer
  var structure: StructureMAC

  init(storeKey: consuming SecretBytes, uuid: StoreUUID) throws(CryptoError) {
    let salt = uuid.bytes.array
    let structureKey = try KeyDerivation.hkdf(
      key: storeKey, salt: salt.span, info: Format.info(.structure).span, count: 32)
    let sectors = try SectorSealer(
      cipherKey: KeyDerivation.hkdf(key: storeKey, salt: salt.span, info: Format.info(.sectorCipher).span, count: 64),
      tagKey: KeyDerivation.hkdf(key: storeKey, salt: salt.span, info: Format.info(.sectorTag).span, count: 32))
    let structure = try StructureMAC(key: structureKey)
    self.sectors = sectors
    self.structure = structure
    self.storeKey = storeKey
    self.uuid = uuid
  }

  /// The structure key alone; the others go.
  consuming func takeStructure() -> StructureMAC { structure }

  /// The same once more, for another volume of the same store.
  func copy(store: String) throws(VolumeError) -> VolumeKeys {
    do { return try VolumeKeys(storeKey: SecretBytes(copying: storeKey.span), uuid: uuid) } catch {
      throw VolumeError(error, store: store)
    }
  }
}

/// Seals and opens sectors (FORMAT §5).
struct SectorSealer: ~Copyable, Sendable {
  private var cipher: SectorCipher
  private var tags: SectorTag
  private var nonces: NonceSource
  /// The 32 bytes before the ciphertext in a tag's input; one buffer, so that no sector costs an allocation.
  private var prefix = ByteBuffer(count: 32)

  init(cipherKey: consuming SecretBytes, tagKey: consuming SecretBytes) throws(CryptoError) {
    let cipher = try SectorCipher(key: cipherKey)
    let tags = try SectorTag(key: tagKey)
    self.cipher = cipher
    self.tags = tags
    nonces = NonceSource()
  }

  /// Encrypts `plaintext` as a new version of `sector` into `ciphertext` and returns its leaf.
  mutating func seal(
    _ plaintext: Span<UInt8>, sector: SectorIndex, into ciphertext: inout ByteBuffer, at offset: Int
  ) throws(CryptoError) -> Leaf {
    let nonce = try nonces.next()
    let place = offset..<offset + plaintext.count
    try cipher.encrypt(
      plaintext, tweak: Self.tweak(sector, nonce), into: ciphertext.mutableSpan(place))
    let tag = try tag(ciphertext, place, sector: sector, nonce: nonce, keyEpoch: Format.keyEpoch)
    return Leaf(tag: tag, nonce: nonce, keyEpoch: Format.keyEpoch)
  }

  /// Whether `place` of `ciphertext` is the version of `sector` that `leaf` stands for.
  mutating func verify(
    _ ciphertext: borrowing ByteBuffer, _ place: Range<Int>, sector: SectorIndex, leaf: Leaf
  ) throws(CryptoError) -> Bool {
    let tag = try tag(ciphertext, place, sector: sector, nonce: leaf.nonce, keyEpoch: leaf.keyEpoch)
    return leaf.keyEpoch == Format.keyEpoch && ConstantTime.equals(tag, leaf.tag)
  }

  /// Decrypts a verified sector.
  mutating func open(
    _ ciphertext: borrowing ByteBuffer, _ place: Range<Int>, sector: SectorIndex, leaf: Leaf,
    into plaintext: consuming MutableSpan<UInt8>
  ) throws(CryptoError) {
    try cipher.decrypt(ciphertext.span(place), tweak: Self.tweak(sector, leaf.nonce), into: plaintext)
  }

  private static func tweak(_ sector: SectorIndex, _ nonce: UInt64) -> InlineBytes16 {
    InlineBytes16(low: sector.value, high: nonce)
  }

  private mutating func tag(
    _ ciphertext: borrowing ByteBuffer, _ place: Range<Int>, sector: SectorIndex, nonce: UInt64, keyEpoch: UInt32
  ) throws(CryptoError) -> InlineBytes16 {
    prefix.store(Format.InputType.sector.rawValue, at: 0)
    prefix.store(UInt32(place.count), at: 4)
    prefix.store(sector.value, at: 8)
    prefix.store(nonce, at: 16)
    prefix.store(keyEpoch, at: 24)
    return try tags.tag(prefix, ciphertext, place)
  }
}

// Buffers are lent whole, with a range, where a span of one stored property would overlap with a call on another.
extension SectorTag {
  fileprivate mutating func tag(
    _ prefix: borrowing ByteBuffer, _ content: borrowing ByteBuffer, _ place: Range<Int>
  ) throws(CryptoError) -> InlineBytes16 {
    try tag(prefix.span, content.span(place))
  }
}

extension StructureMAC {
  mutating func update(_ buffer: borrowing ByteBuffer, _ place: Range<Int>) throws(CryptoError) {
    try update(buffer.span(place))
  }

  /// Begins an authenticated input: its type, so that no input is ever taken for one of another kind.
  mutating func startInput(_ type: Format.InputType) throws(CryptoError) {
    try start()
    try update(UInt64(type.rawValue))
  }
}
