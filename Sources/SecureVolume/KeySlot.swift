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

/// What a wrap is bound to beside its own slot's bytes (FORMAT §3).
struct SlotContext: Equatable, Sendable {
  /// The header's first 56 bytes: format and store.
  let identity: [UInt8]
  /// The VM that the store is bound to, as the header has it.
  let binding: [UInt8]
}

/// One wrap of the store key (FORMAT §3). Copies of it are harmless: it is public.
public struct KeySlot: Equatable, Sendable {
  public static let maximumNameLength = 120

  public let kind: SlotKind
  /// For `.passphrase`: what trying one costs.
  public let cost: ScryptCost?
  let salt: InlineBytes32
  let nonce: [UInt8]
  var wrapped = InlineBytes32()
  var tag = InlineBytes16()
  /// Seconds since 1970, UTC.
  public let created: UInt64
  /// Unique in a store. For `.keyring` the name of the kernel key.
  public var name: String { String(decoding: label, as: UTF8.self) }
  private let label: [UInt8]
  /// Who made the slot; empty where nobody said.
  private let maker: [UInt8]

  /// Where the fields lie, in a slot.
  private enum Field {
    static let algorithm = 4
    static let state = 8
    static let cost = 12
    static let created = 24
    static let salt = 32..<64
    static let nonce = 64..<76
    static let wrapped = 76..<108
    static let tag = 108..<124
    static let label = 124
    static let maker = 248
  }

  /// Wrapping under a key that both sides have.
  private static let symmetric: UInt32 = 1
  private static let active: UInt32 = 1

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
    created: UInt64, context: SlotContext, index: Int
  ) throws(CryptoError) -> KeySlot {
    precondition(isValid(name: name) && (key.kind == .passphrase) == (cost != nil))
    var random = ByteBuffer(count: 44)
    try Random.fill(random.mutableSpan)
    var slot = KeySlot(
      kind: key.kind, cost: cost, salt: InlineBytes32(random.span), nonce: random.span(32..<44).array,
      created: created, label: Array(name.utf8), maker: [])
    var bytes = ByteBuffer(count: Format.slotSize)
    slot.encode(to: &bytes, at: 0)
    let wrapping = try wrappingKey(from: key, slot: bytes.span)
    var ciphertext = ByteBuffer(count: 32)
    let associated = associatedData(slot: bytes.span, context: context, index: index)
    slot.tag = try KeyWrap.seal(
      storeKey, key: wrapping, nonce: slot.nonce.span, associatedData: associated.span,
      ciphertext: ciphertext.mutableSpan)
    slot.wrapped = InlineBytes32(ciphertext.span)
    return slot
  }

  /// The store key out of a slot's bytes; `nil` where `key` is not this slot's or the slot was changed. The bytes need
  /// not be well-formed: only costs beyond the limits are not tried.
  static func unwrap(
    _ slot: Span<UInt8>, with key: borrowing KeyEncryptionKey, context: SlotContext, index: Int
  ) throws(CryptoError) -> SecretBytes? {
    guard slot.load(UInt32.self, at: 0) == key.kind.rawValue,
      key.kind != .passphrase || cost(in: slot).isWithinLimits
    else { return nil }
    let wrapping = try wrappingKey(from: key, slot: slot)
    let associated = associatedData(slot: slot, context: context, index: index)
    return try KeyWrap.open(
      ciphertext: slot.extracting(Field.wrapped), tag: InlineBytes16(slot, at: Field.tag.lowerBound), key: wrapping,
      nonce: slot.extracting(Field.nonce), associatedData: associated.span)
  }

  private static func cost(in slot: Span<UInt8>) -> ScryptCost {
    ScryptCost(
      log2N: slot.load(UInt32.self, at: Field.cost), r: slot.load(UInt32.self, at: Field.cost + 4),
      p: slot.load(UInt32.self, at: Field.cost + 8))
  }

  /// What trying a passphrase on this slot would take, as N × r × p, of whatever size; 0 for other kinds.
  static func passphraseCost(_ slot: Span<UInt8>) -> UInt64 {
    guard slot.load(UInt32.self, at: 0) == SlotKind.passphrase.rawValue else { return 0 }
    let cost = cost(in: slot)
    let (pieces, log2N) = (UInt64(cost.r) * UInt64(cost.p), UInt64(cost.log2N))
    let isHuge = pieces > 0 && (log2N > 32 || pieces > Format.passphraseCostLimit)
    return isHuge ? Format.passphraseCostLimit + 1 : pieces << min(log2N, 32)
  }

  private static func wrappingKey(
    from key: borrowing KeyEncryptionKey, slot: Span<UInt8>
  ) throws(CryptoError) -> SecretBytes {
    let salt = slot.extracting(Field.salt)
    let info = Format.info(.slot)
    guard key.kind == .passphrase else {
      return try KeyDerivation.hkdf(key: key.secret, salt: salt, info: info.span, count: 32)
    }
    let stretched = try PassphraseKDF.scrypt(passphrase: key.secret, salt: salt, cost: cost(in: slot), count: 32)
    return try KeyDerivation.hkdf(key: stretched, salt: salt, info: info.span, count: 32)
  }

  /// `header[0..56] ‖ u32(index) ‖ the VM's binding ‖ slot[0..64] ‖ slot[124..2048]`.
  private static func associatedData(slot: Span<UInt8>, context: SlotContext, index: Int) -> ByteBuffer {
    let (before, after) = (slot.extracting(0..<Field.nonce.lowerBound), slot.extracting(Field.label..<slot.count))
    let head = context.identity.count + 4 + context.binding.count
    var data = ByteBuffer(count: head + before.count + after.count)
    data.copy(from: context.identity)
    data.store(UInt32(index), at: context.identity.count)
    data.copy(from: context.binding, at: context.identity.count + 4)
    data.copy(from: before, at: head)
    data.copy(from: after, at: head + before.count)
    return data
  }

  func encode(to out: inout ByteBuffer, at offset: Int) {
    out.store(kind.rawValue, at: offset)
    out.store(Self.symmetric, at: offset + Field.algorithm)
    out.store(Self.active, at: offset + Field.state)
    if let cost {
      out.store(cost.log2N, at: offset + Field.cost)
      out.store(cost.r, at: offset + Field.cost + 4)
      out.store(cost.p, at: offset + Field.cost + 8)
    }
    out.store(created, at: offset + Field.created)
    out.store(salt, at: offset + Field.salt.lowerBound)
    out.copy(from: nonce, at: offset + Field.nonce.lowerBound)
    out.store(wrapped, at: offset + Field.wrapped.lowerBound)
    out.store(tag, at: offset + Field.tag.lowerBound)
    for (text, place) in [(label, Field.label), (maker, Field.maker)] {
      out.store(UInt32(text.count), at: offset + place)
      out.copy(from: text, at: offset + place + 4)
    }
  }

  /// `nil` unless the bytes are exactly what `encode` would write: an empty slot, unknown kinds, algorithms and states,
  /// costs beyond the limits and reserved bytes that aren't zero are all no slot.
  init?(parsing bytes: Span<UInt8>) {
    guard let kind = SlotKind(rawValue: bytes.load(UInt32.self, at: 0)) else { return nil }
    let cost = Self.cost(in: bytes)
    guard kind != .passphrase || cost.isWithinLimits, let label = Self.text(bytes, at: Field.label),
      let maker = Self.text(bytes, at: Field.maker), Self.isValid(name: label),
      maker.isEmpty || Self.isValid(name: maker)
    else { return nil }
    self.init(
      kind: kind, cost: kind == .passphrase ? cost : nil, salt: InlineBytes32(bytes, at: Field.salt.lowerBound),
      nonce: bytes.extracting(Field.nonce).array, created: bytes.load(UInt64.self, at: Field.created),
      label: Array(label.utf8), maker: Array(maker.utf8))
    wrapped = InlineBytes32(bytes, at: Field.wrapped.lowerBound)
    tag = InlineBytes16(bytes, at: Field.tag.lowerBound)
    var again = ByteBuffer(count: Format.slotSize)
    encode(to: &again, at: 0)
    guard again.span.equals(bytes) else { return nil }
  }

  private static func text(_ bytes: Span<UInt8>, at offset: Int) -> String? {
    let length = bytes.load(UInt32.self, at: offset)
    guard length <= UInt32(maximumNameLength) else { return nil }
    return String(validating: bytes.extracting(offset + 4..<offset + 4 + Int(length)).array, as: UTF8.self)
  }

  private init(
    kind: SlotKind, cost: ScryptCost?, salt: InlineBytes32, nonce: [UInt8], created: UInt64, label: [UInt8],
    maker: [UInt8]
  ) {
    (self.kind, self.cost, self.salt, self.nonce, self.created) = (kind, cost, salt, nonce, created)
    (self.label, self.maker) = (label, maker)
  }
}

extension ScryptCost {
  /// N × r × p. Only for a cost within the limits.
  var units: UInt64 { UInt64(r) * UInt64(p) << UInt64(log2N) }
}
