import Crypto
import Primitives

/// The container around a TPM's state in which swtpm migrates it, and which its state directory holds. Big-endian:
///
///     header   u8 version 2, u8 least version 1, u16 header size 10, u16 flags, u32 size of all
///     fields   u16 tag, u32 size, bytes; any number; the first of a tag counts
///
/// A state in a file is the field `data`, or the three `encryptedData`, `mac`, `vector` under the state key. To
/// migrate, those fields go, together, into `migrationData`, or encrypted under the migration key into three fields of
/// its own.
///
/// Version 1, which swtpm wrote before April 2018, has no fields: what follows the header is the state. Where it is
/// encrypted nothing but a hash without a key, in the ciphertext, tells whether it was changed: swtpm reads that still,
/// and here it is refused.
///
/// Facts from swtpm's published sources and from blobs of Debian's swtpm 0.7.1 (`SwtpmFormatTests`).
public enum SwtpmContainer {
  static let headerSize = 10
  /// The most bytes that a blob may have: the largest permanent state, twice padded, and the fields around it.
  public static let maximumSize = 262_144 + 1024

  struct Flags: OptionSet {
    let rawValue: UInt16
    static let encrypted = Flags(rawValue: 1)
    static let migrationEncrypted = Flags(rawValue: 2)
    static let migrationData = Flags(rawValue: 4)
    static let encrypted256 = Flags(rawValue: 8)
    static let migrationEncrypted256 = Flags(rawValue: 0x10)
  }

  enum Tag: UInt16 {
    case data = 1
    case encryptedData = 2
    case mac = 3
    case migrationData = 4
    case encryptedMigrationData = 5
    case vector = 6
    case migrationVector = 7
  }

  // MARK: Making

  /// What GET_STATEBLOB gives: the state in clear, or under a state key; and that under a migration key where there is
  /// one.
  public static func migrationBlob(
    of state: Span<UInt8>, stateKey: (any SwtpmStateCipher)? = nil, migrationKey: SwtpmKey? = nil
  ) throws(SwtpmFormatError) -> [UInt8] {
    var flags: Flags = .migrationData
    var inner: [UInt8] = []
    inner.reserveCapacity(state.count + 256)
    defer { wipe(&inner) }
    if let stateKey {
      flags.insert(.encrypted)
      if stateKey.count == 32 { flags.insert(.encrypted256) }
      try append(state, under: stateKey, .encryptedData, .vector, to: &inner)
    } else {
      append(.data, state, to: &inner)
    }
    var blob = [UInt8](repeating: 0, count: headerSize)
    blob.reserveCapacity(inner.count + 256)
    if let migrationKey {
      flags.insert(.migrationEncrypted)
      if migrationKey.count == 32 { flags.insert(.migrationEncrypted256) }
      try append(inner.span, under: migrationKey, .encryptedMigrationData, .migrationVector, to: &blob)
    } else {
      append(.migrationData, inner.span, to: &blob)
    }
    finish(&blob, flags)
    return blob
  }

  /// What a state directory's file holds.
  public static func file(of state: Span<UInt8>, key: SwtpmKey? = nil) throws(SwtpmFormatError) -> [UInt8] {
    var flags: Flags = []
    var blob = [UInt8](repeating: 0, count: headerSize)
    blob.reserveCapacity(state.count + 256)
    if let key {
      flags.insert(.encrypted)
      if key.count == 32 { flags.insert(.encrypted256) }
      try append(state, under: key, .encryptedData, .vector, to: &blob)
    } else {
      append(.data, state, to: &blob)
    }
    finish(&blob, flags)
    return blob
  }

  private static func append(_ tag: Tag, _ bytes: Span<UInt8>, to blob: inout [UInt8]) {
    append(tag.rawValue, to: &blob)
    append(UInt32(bytes.count), to: &blob)
    for i in 0..<bytes.count { blob.append(bytes[i]) }
  }

  private static func append(
    _ bytes: Span<UInt8>, under key: any SwtpmStateCipher, _ tag: Tag, _ vectorTag: Tag, to blob: inout [UInt8]
  ) throws(SwtpmFormatError) {
    let sealed = try key.seal(bytes)
    append(tag, sealed.ciphertext.span, to: &blob)
    append(.mac, sealed.mac.span, to: &blob)
    append(vectorTag, sealed.vector.span, to: &blob)
  }

  private static func append<T: FixedWidthInteger & UnsignedInteger>(_ value: T, to blob: inout [UInt8]) {
    for shift in stride(from: T.bitWidth - 8, through: 0, by: -8) {
      blob.append(UInt8(truncatingIfNeeded: value >> T(shift)))
    }
  }

  private static func finish(_ blob: inout [UInt8], _ flags: Flags) {
    var header: [UInt8] = [2, 1]
    append(UInt16(headerSize), to: &header)
    append(flags.rawValue, to: &header)
    append(UInt32(blob.count), to: &header)
    blob.replaceSubrange(0..<headerSize, with: header)
  }

  // MARK: Opening

  /// The state in a migration blob; nil in an empty one, which says that there is none. `isEncrypted`: the sender says
  /// that the state in it is under the state key, whatever the header says.
  public static func state(
    inMigrationBlob blob: Span<UInt8>, migrationKey: SwtpmKey? = nil, stateKey: (any SwtpmStateCipher)? = nil,
    isEncrypted: Bool = false
  ) throws(SwtpmFormatError) -> [UInt8]? {
    guard blob.count > 0 else { return nil }
    let (version, flags) = try header(blob)
    let fields = blob.extracting(droppingFirst: headerSize)
    guard fields.count > 0 else { return nil }
    if version == 1 {
      guard !isEncrypted, flags.isDisjoint(with: [.encrypted, .migrationEncrypted]) else { throw .unkeyedHash }
      return fields.array
    }
    let inner: SecretBytes
    if flags.contains(.migrationEncrypted) {
      guard let migrationKey else { throw .keyMissing(.migration) }
      inner = try open(
        fields, under: migrationKey, .encryptedMigrationData, .migrationVector, .migration,
        bits: flags.contains(.migrationEncrypted256) ? 256 : 128)
    } else {
      inner = SecretBytes(copying: fields.extracting(try require(.migrationData, "migration data", in: fields)))
    }
    let found = try state(in: inner.span, key: stateKey, isEncrypted || flags.contains(.encrypted), flags)
    return found.span.array
  }

  /// Whether a migration blob says that it, or the state in it, is encrypted. False for what is none.
  public static func isEncrypted(migrationBlob blob: Span<UInt8>) -> Bool {
    guard let flags = try? header(blob).flags else { return false }
    return !flags.isDisjoint(with: [.encrypted, .migrationEncrypted])
  }

  /// Whether the state in a state directory's file is encrypted.
  public static func isEncrypted(file blob: Span<UInt8>) throws(SwtpmFormatError) -> Bool {
    try header(blob).flags.contains(.encrypted)
  }

  /// The state in a state directory's file.
  public static func state(inFile blob: Span<UInt8>, key: SwtpmKey? = nil) throws(SwtpmFormatError) -> SecretBytes {
    let (version, flags) = try header(blob)
    let fields = blob.extracting(droppingFirst: headerSize)
    if version == 1 {
      guard !flags.contains(.encrypted) else { throw .unkeyedHash }
      return SecretBytes(copying: fields)
    }
    return try state(in: fields, key: key, flags.contains(.encrypted), flags)
  }

  private static func state(
    in fields: Span<UInt8>, key: (any SwtpmStateCipher)?, _ isEncrypted: Bool, _ flags: Flags
  ) throws(SwtpmFormatError) -> SecretBytes {
    guard isEncrypted else {
      return SecretBytes(copying: fields.extracting(try require(.data, "plain data", in: fields)))
    }
    guard let key else { throw .keyMissing(.state) }
    return try open(
      fields, under: key, .encryptedData, .vector, .state, bits: flags.contains(.encrypted256) ? 256 : 128)
  }

  private static func open(
    _ fields: Span<UInt8>, under key: any SwtpmStateCipher, _ tag: Tag, _ vectorTag: Tag,
    _ use: SwtpmFormatError.KeyUse, bits: Int
  ) throws(SwtpmFormatError) -> SecretBytes {
    guard key.count * 8 == bits else { throw .keySize(use, needed: bits) }
    let ciphertext = try require(tag, "encrypted data", in: fields)
    let mac = try require(.mac, "MAC", in: fields)
    let vector = try field(vectorTag, in: fields) ?? 0..<0
    return try key.open(
      fields.extracting(ciphertext), mac: fields.extracting(mac), vector: fields.extracting(vector), as: use)
  }

  private static func header(_ blob: Span<UInt8>) throws(SwtpmFormatError) -> (version: UInt8, flags: Flags) {
    guard blob.count >= headerSize else { throw .malformed("\(blob.count) bytes are too few for a header") }
    guard blob.count <= maximumSize else { throw .malformed("\(blob.count) bytes are too many") }
    let total = integer(UInt32.self, blob, at: 6)
    guard total == UInt32(blob.count) else { throw .malformed("it says \(total) bytes and has \(blob.count)") }
    guard blob[1] <= 2 else { throw .unknownVersion(blob[1]) }
    let size = Int(integer(UInt16.self, blob, at: 2))
    guard size == headerSize else { throw .headerSize(size) }
    guard blob[0] >= 1 else { throw .unknownVersion(blob[0]) }
    return (blob[0], Flags(rawValue: integer(UInt16.self, blob, at: 4)))
  }

  /// Where the first field with the tag has its bytes, or nil. Throws where a field before it goes beyond the end.
  private static func field(_ tag: Tag, in fields: Span<UInt8>) throws(SwtpmFormatError) -> Range<Int>? {
    var offset = 0
    while fields.count - offset >= 6 {
      let found = integer(UInt16.self, fields, at: offset)
      let size = Int(integer(UInt32.self, fields, at: offset + 2))
      offset += 6
      guard size <= fields.count - offset else { throw .malformed("a field goes beyond the end") }
      if found == tag.rawValue { return offset..<offset + size }
      offset += size
    }
    return nil
  }

  private static func require(
    _ tag: Tag, _ name: String, in fields: Span<UInt8>
  ) throws(SwtpmFormatError) -> Range<Int> {
    guard let found = try field(tag, in: fields) else { throw .missing(name) }
    return found
  }

  private static func integer<T: FixedWidthInteger & UnsignedInteger>(
    _: T.Type, _ bytes: Span<UInt8>, at offset: Int
  ) -> T {
    var value: T = 0
    for i in 0..<(T.bitWidth / 8) { value = value << 8 | T(bytes[offset + i]) }
    return value
  }
}
