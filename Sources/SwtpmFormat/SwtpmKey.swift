import Crypto
import Primitives

/// A key of swtpm's `--key` or `--migration-key`: AES-128 or AES-256 in CBC mode, and HMAC-SHA-256 over ciphertext and
/// initialisation vector under the same key.
///
/// That is weaker than what images have (one key for two uses, passwords that are cheap to guess at) and is there for
/// exchange with swtpm alone.
public final class SwtpmKey: Sendable {
  /// How a password becomes a key.
  public enum Derivation: String, Sendable {
    /// PBKDF2-HMAC-SHA-512, 1000 iterations, the salt "swtpm".
    case pbkdf2
    /// The first bytes of SHA-512.
    case sha512
  }

  private let secret: SecretBytes

  /// 16 or 32 bytes.
  public var count: Int { secret.count }

  /// The key's bytes once more, for another process.
  public func copyOfSecret() -> SecretBytes { secret.copy() }

  public init(_ secret: consuming SecretBytes) {
    precondition(secret.count == 16 || secret.count == 32)
    self.secret = secret
  }

  /// A key of `count` bytes from a password: all bytes of its file, a newline at the end among them, as swtpm has it.
  public init(password: borrowing SecretBytes, _ derivation: Derivation, count: Int) throws(CryptoError) {
    precondition(count == 16 || count == 32)
    switch derivation {
    case .sha512: secret = try PasswordHash.sha512(password, count: count)
    case .pbkdf2:
      let salt: [UInt8] = Array("swtpm".utf8)
      secret = try PasswordHash.pbkdf2SHA512(password, salt: salt.span, iterations: 1000, count: count)
    }
  }

  /// A key of `count` bytes written as hexadecimal digits, with or without "0x" before and white space behind. Nil
  /// where it isn't one.
  public convenience init?(hexadecimal text: borrowing SecretBytes, count: Int) {
    precondition(count == 16 || count == 32)
    guard let secret = Self.secret(hexadecimal: text, count: count) else { return nil }
    self.init(secret)
  }

  static func secret(hexadecimal text: borrowing SecretBytes, count: Int) -> SecretBytes? {
    let digits = text.span
    var start = 0
    if digits.count >= 2, digits[0] == 0x30, digits[1] == 0x78 { start = 2 }
    guard digits.count >= start + 2 * count else { return nil }
    var secret = SecretBytes(count: count)
    var bytes = secret.mutableSpan
    for i in 0..<count {
      guard let high = Self.digit(digits[start + 2 * i]), let low = Self.digit(digits[start + 2 * i + 1]) else {
        return nil
      }
      bytes[i] = high << 4 | low
    }
    for i in (start + 2 * count)..<digits.count where ![0x20, 0x09, 0x0A, 0x0D].contains(digits[i]) { return nil }
    return secret
  }

  private static func digit(_ byte: UInt8) -> UInt8? {
    switch byte {
    case 0x30...0x39: byte - 0x30
    case 0x41...0x46: byte - 0x41 + 10
    case 0x61...0x66: byte - 0x61 + 10
    default: nil
    }
  }

  // MARK: Encryption

  /// Padded to a multiple of the key's size, each byte of the padding being its length; the vector has the key's size
  /// too, of which AES takes the first 16 bytes and the MAC all.
  func sealed(_ plaintext: Span<UInt8>) throws(CryptoError) -> SwtpmSealed {
    let padding = count - plaintext.count % count
    var padded = SecretBytes(count: plaintext.count + padding)
    var out = padded.mutableSpan
    out.fill(UInt8(padding))
    out.copy(from: plaintext)
    var vector = [UInt8](repeating: 0, count: count)
    try Random.fill(vector.mutableSpan)
    var ciphertext = [UInt8](repeating: 0, count: padded.count)
    try BlockChaining.run(
      .encrypt, padded.span, key: secret, vector: vector.span.extracting(first: BlockChaining.blockCount),
      into: ciphertext.mutableSpan)
    let mac = try ForeignMAC.hmacSHA256(ciphertext.span, vector.span, key: secret)
    return SwtpmSealed(ciphertext: ciphertext, mac: mac.array, vector: vector)
  }

  /// Nil where it doesn't verify. The oldest blobs have no vector (it is empty); then it is zero, and no part of the
  /// MAC.
  func opened(_ ciphertext: Span<UInt8>, mac: Span<UInt8>, vector: Span<UInt8>) throws(CryptoError) -> SecretBytes? {
    guard ciphertext.count > 0, ciphertext.count % BlockChaining.blockCount == 0, mac.count >= 32,
      vector.count == count || vector.count == 0
    else { return nil }
    let expected = try ForeignMAC.hmacSHA256(ciphertext, vector, key: secret)
    guard ConstantTime.equals(expected, InlineBytes32(mac)) else { return nil }
    var first = [UInt8](repeating: 0, count: BlockChaining.blockCount)
    for i in 0..<min(first.count, vector.count) { first[i] = vector[i] }
    var plaintext = SecretBytes(count: ciphertext.count)
    try BlockChaining.run(.decrypt, ciphertext, key: secret, vector: first.span, into: plaintext.mutableSpan)
    let padding = Int(plaintext.span[plaintext.count - 1])
    guard (1...count).contains(padding), padding <= plaintext.count else { return nil }
    for i in 1...padding where plaintext.span[plaintext.count - i] != UInt8(padding) { return nil }
    let size = plaintext.count - padding
    return plaintext.prefix(size)
  }
}
