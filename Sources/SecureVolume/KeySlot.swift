import Crypto
import Primitives

/// A key that opens a slot: 32 bytes from the keyring or a recovery key, or a passphrase.
public struct KeyEncryptionKey: ~Copyable, Sendable {
  public let kind: SlotKind
  let secret: SecretBytes

  /// `secret` has 32 bytes for a keyring or recovery key; a passphrase has at least one.
  public init(_ kind: SlotKind, _ secret: consuming SecretBytes) {
    precondition(kind == .passphrase ? secret.count > 0 : secret.count == 32)
    self.kind = kind
    self.secret = secret
  }
}

public enum SlotKind: UInt32, Sendable, CaseIterable {
  case keyring = 1
  case recovery = 2
  case passphrase = 3

  /// The stable name in `--json` and on the command line.
  public var label: String {
    switch self {
    case .keyring: "key"
    case .recovery: "recovery-key"
    case .passphrase: "passphrase"
    }
  }
}

/// One wrap of the store key (FORMAT §3). Copies of it are harmless: it is public.
public struct KeySlot: Equatable, Sendable {
  public static let maximumNameLength = 120

  public let kind: SlotKind
  /// For `.passphrase`: what trying one costs.
  public let cost: ScryptCost?
  let salt: InlineBytes32
  let nonce: [UInt8]
  let wrapped: InlineBytes32
  let tag: InlineBytes16
  /// Seconds since 1970, UTC.
  public let created: UInt64
  /// Unique in a store. For `.keyring` the name of the kernel key.
  public var name: String { String(decoding: nameBytes, as: UTF8.self) }
  private let nameBytes: [UInt8]

  /// Names are compared byte by byte (FORMAT §3); Swift's strings take different spellings of é for equal.
  static func areEqual(_ a: String, _ b: String) -> Bool { a.utf8.elementsEqual(b.utf8) }

  /// Whether a slot may bear this name.
  public static func isValid(name: String) -> Bool {
    let bytes = name.utf8
    return (1...maximumNameLength).contains(bytes.count)
      && name.unicodeScalars.allSatisfy { $0.value >= 0x20 && !(0x7F..<0xA0).contains($0.value) }
  }

  /// Wraps `storeKey` under `key` with a fresh salt and nonce.
  static func wrap(
    _ storeKey: borrowing SecretBytes, under key: borrowing KeyEncryptionKey, name: String, cost: ScryptCost?,
    created: UInt64, identity: Span<UInt8>, index: Int
  ) throws(CryptoError) -> KeySlot {
    precondition(isValid(name: name) && (key.kind == .passphrase) == (cost != nil))
    var random = ByteBuffer(count: 44)
    try Random.fill(random.mutableSpan)
    let slot = KeySlot(
      kind: key.kind, cost: cost, salt: InlineBytes32(random.span), nonce: random.span(32..<44).array,
      wrapped: InlineBytes32(), tag: InlineBytes16(), created: created, name: name)
    var bytes = ByteBuffer(count: Format.slotSize)
    slot.encode(to: &bytes, at: 0)
    let wrapping = try wrappingKey(from: key, slot: bytes.span)
    var ciphertext = ByteBuffer(count: 32)
    let associated = associatedData(slot: bytes.span, identity: identity, index: index)
    let tag = try KeyWrap.seal(
      storeKey, key: wrapping, nonce: slot.nonce.span, associatedData: associated.span,
      ciphertext: ciphertext.mutableSpan)
    return KeySlot(
      kind: slot.kind, cost: cost, salt: slot.salt, nonce: slot.nonce, wrapped: InlineBytes32(ciphertext.span),
      tag: tag, created: created, name: name)
  }

  /// The store key out of a slot's bytes; `nil` where `key` is not this slot's or the slot was changed. The bytes need
  /// not be well-formed: only costs beyond the limits are not tried.
  static func unwrap(
    _ slot: Span<UInt8>, with key: borrowing KeyEncryptionKey, identity: Span<UInt8>, index: Int
  ) throws(CryptoError) -> SecretBytes? {
    guard slot.load(UInt32.self, at: 0) == key.kind.rawValue,
      key.kind != .passphrase || cost(in: slot).isWithinLimits
    else { return nil }
    let wrapping = try wrappingKey(from: key, slot: slot)
    let associated = associatedData(slot: slot, identity: identity, index: index)
    return try KeyWrap.open(
      ciphertext: slot.extracting(68..<100), tag: InlineBytes16(slot, at: 100), key: wrapping,
      nonce: slot.extracting(56..<68), associatedData: associated.span)
  }

  private static func cost(in slot: Span<UInt8>) -> ScryptCost {
    ScryptCost(
      log2N: slot.load(UInt32.self, at: 8), r: slot.load(UInt32.self, at: 12), p: slot.load(UInt32.self, at: 16))
  }

  private static func wrappingKey(
    from key: borrowing KeyEncryptionKey, slot: Span<UInt8>
  ) throws(CryptoError) -> SecretBytes {
    let salt = slot.extracting(24..<56)
    let info = Format.info(.slot)
    guard key.kind == .passphrase else {
      return try KeyDerivation.hkdf(key: key.secret, salt: salt, info: info.span, count: 32)
    }
    let stretched = try PassphraseKDF.scrypt(passphrase: key.secret, salt: salt, cost: cost(in: slot), count: 32)
    return try KeyDerivation.hkdf(key: stretched, salt: salt, info: info.span, count: 32)
  }

  /// `header[0..40] ‖ u32(index) ‖ slot[0..56] ‖ slot[116..256]`.
  private static func associatedData(slot: Span<UInt8>, identity: Span<UInt8>, index: Int) -> ByteBuffer {
    var data = ByteBuffer(count: Format.identitySize + 4 + 56 + 140)
    data.copy(from: identity)
    data.store(UInt32(index), at: 40)
    data.copy(from: slot.extracting(0..<56), at: 44)
    data.copy(from: slot.extracting(116..<256), at: 100)
    return data
  }

  func encode(to out: inout ByteBuffer, at offset: Int) {
    out.store(kind.rawValue, at: offset)
    if let cost {
      out.store(cost.log2N, at: offset + 8)
      out.store(cost.r, at: offset + 12)
      out.store(cost.p, at: offset + 16)
    }
    out.store(salt, at: offset + 24)
    out.copy(from: nonce, at: offset + 56)
    out.store(wrapped, at: offset + 68)
    out.store(tag, at: offset + 100)
    out.store(created, at: offset + 120)
    out.store(UInt32(nameBytes.count), at: offset + 128)
    out.copy(from: nameBytes, at: offset + 132)
  }

  /// `nil` unless the bytes are exactly what `encode` would write: an empty slot, unknown kinds, costs beyond the
  /// limits and reserved bytes that aren't zero are all no slot.
  init?(parsing bytes: Span<UInt8>) {
    guard let kind = SlotKind(rawValue: bytes.load(UInt32.self, at: 0)) else { return nil }
    let cost = Self.cost(in: bytes)
    let nameLength = bytes.load(UInt32.self, at: 128)
    guard kind != .passphrase || cost.isWithinLimits, nameLength <= UInt32(Self.maximumNameLength),
      let name = String(validating: bytes.extracting(132..<132 + Int(nameLength)).array, as: UTF8.self),
      Self.isValid(name: name)
    else { return nil }
    self.init(
      kind: kind, cost: kind == .passphrase ? cost : nil, salt: InlineBytes32(bytes, at: 24),
      nonce: bytes.extracting(56..<68).array, wrapped: InlineBytes32(bytes, at: 68), tag: InlineBytes16(bytes, at: 100),
      created: bytes.load(UInt64.self, at: 120), name: name)
    var again = ByteBuffer(count: Format.slotSize)
    encode(to: &again, at: 0)
    guard again.span.equals(bytes) else { return nil }
  }

  private init(
    kind: SlotKind, cost: ScryptCost?, salt: InlineBytes32, nonce: [UInt8], wrapped: InlineBytes32,
    tag: InlineBytes16, created: UInt64, name: String
  ) {
    self.kind = kind
    self.cost = cost
    self.salt = salt
    self.nonce = nonce
    self.wrapped = wrapped
    self.tag = tag
    self.created = created
    nameBytes = Array(name.utf8)
  }
}
