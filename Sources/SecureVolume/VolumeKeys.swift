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

/// Seals and opens sectors (FORMAT §5), several that lie side by side at a time.
struct SectorSealer: ~Copyable, Sendable {
  /// The most sectors that one call takes.
  static var mostSectors: Int { SectorTag.mostLanes }
  private static let prefixSize = 32

  private var cipher: SectorCipher
  private var tags: SectorTag
  private var nonces: NonceSource
  /// For each sector the 32 bytes before the ciphertext in its tag's input, and then its tag; so that none costs an
  /// allocation.
  private var prefixes = ByteBuffer(count: SectorSealer.mostSectors * SectorSealer.prefixSize)
  private var computed = ByteBuffer(count: SectorSealer.mostSectors * 16)

  init(cipherKey: consuming SecretBytes, tagKey: consuming SecretBytes) throws(CryptoError) {
    let cipher = try SectorCipher(key: cipherKey)
    let tags = try SectorTag(key: tagKey)
    self.cipher = cipher
    self.tags = tags
    nonces = NonceSource()
  }

  /// Encrypts a new version of a sector into `ciphertext`: the `index`-th of those that lie side by side there, and of
  /// which `tag` computes the tags.
  mutating func encrypt(
    _ plaintext: Span<UInt8>, _ index: Int, sector: SectorIndex, into ciphertext: inout ByteBuffer, at offset: Int
  ) throws(CryptoError) {
    let nonce = try nonces.next()
    try cipher.encrypt(
      plaintext, tweak: Self.tweak(sector, nonce),
      into: ciphertext.mutableSpan(offset..<offset + plaintext.count))
    prepare(index, sector, size: plaintext.count, nonce: nonce, keyEpoch: Format.keyEpoch)
  }

  /// Computes the tags of sectors that were encrypted, all of them at once.
  mutating func tag(_ ciphertext: borrowing ByteBuffer, from offset: Int, size: Int, count: Int) throws(CryptoError) {
    try tags.tags(prefixes, ciphertext, from: offset, size: size, count: count, into: &computed)
  }

  /// The leaf of the `index`-th, once it has its tag.
  func leaf(_ index: Int) -> Leaf {
    Leaf(
      tag: InlineBytes16(computed.span, at: 16 * index),
      nonce: prefixes.load(UInt64.self, at: index * Self.prefixSize + 16))
  }

  /// Which of `count` sectors, side by side in `ciphertext`, are not the versions that their leaves stand for: a bit
  /// each.
  mutating func failing(
    _ ciphertext: borrowing ByteBuffer, from offset: Int, size: Int, count: Int,
    expected: (Int) -> (sector: SectorIndex, leaf: Leaf)
  ) throws(CryptoError) -> UInt64 {
    for i in 0..<count {
      let (sector, leaf) = expected(i)
      prepare(i, sector, size: size, nonce: leaf.nonce, keyEpoch: leaf.keyEpoch)
    }
    try tags.tags(prefixes, ciphertext, from: offset, size: size, count: count, into: &computed)
    var failing: UInt64 = 0
    for i in 0..<count {
      let leaf = expected(i).leaf
      let tag = InlineBytes16(computed.span, at: 16 * i)
      if !leaf.isWellFormed || !ConstantTime.equals(tag, leaf.tag) { failing |= 1 << UInt64(i) }
    }
    return failing
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

  private mutating func prepare(_ index: Int, _ sector: SectorIndex, size: Int, nonce: UInt64, keyEpoch: UInt32) {
    let start = index * Self.prefixSize
    prefixes.store(Format.InputType.sector.rawValue, at: start)
    prefixes.store(UInt32(size), at: start + 4)
    prefixes.store(sector.value, at: start + 8)
    prefixes.store(nonce, at: start + 16)
    prefixes.store(keyEpoch, at: start + 24)
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
