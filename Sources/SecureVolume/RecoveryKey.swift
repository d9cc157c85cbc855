import Crypto
import Primitives

/// A recovery key and its printed form (FORMAT §3): eight groups of eight hexadecimal digits and a ninth of four that
/// catches slips. The text is a secret like the key: it is built and read in `SecretBytes`.
public enum RecoveryKey {
  public enum ParseError: Error, Equatable {
    /// Something other than hexadecimal digits, or more than 68 of them.
    case notARecoveryKey
    /// Fewer than 68 digits.
    case incomplete(digits: Int)
    /// Well-formed, but the last group doesn't fit the others: mistyped.
    case mistyped
  }

  /// 32 random bytes.
  public static func generate() throws(CryptoError) -> SecretBytes { try Random.secret(count: 32) }

  /// The length of the printed form, in ASCII bytes.
  public static let textLength = 8 * 9 + 4

  /// The printed form, in ASCII.
  public static func text(of key: borrowing SecretBytes) throws(CryptoError) -> SecretBytes {
    precondition(key.count == 32)
    var text = SecretBytes(count: textLength)
    let check = try checksum(key.span)
    var out = text.mutableSpan
    for i in 0..<34 {
      let byte = i < 32 ? key.span[i] : check[i - 32]
      let place = 2 * i + i / 4
      out[place] = digit(byte >> 4)
      out[place + 1] = digit(byte & 15)
      if i % 4 == 3 { out[place + 2] = UInt8(ascii: "-") }
    }
    return text
  }

  /// Reads the printed form; case, hyphens and white space don't count.
  public static func parse(_ text: borrowing SecretBytes) throws(ParseError) -> SecretBytes {
    var digits = SecretBytes(count: 68)
    var count = 0
    var out = digits.mutableSpan
    let source = text.span
    for i in source.indices {
      let byte = source[i]
      if byte == UInt8(ascii: "-") || byte == 0x20 || (0x09...0x0D).contains(byte) { continue }
      guard let value = value(of: byte), count < 68 else { throw .notARecoveryKey }
      out[count] = value
      count += 1
    }
    guard count == 68 else { throw .incomplete(digits: count) }
    var key = SecretBytes(count: 32)
    var bytes = key.mutableSpan
    for i in 0..<32 { bytes[i] = digits.span[2 * i] << 4 | digits.span[2 * i + 1] }
    guard let check = try? checksum(key.span), check[0] == digits.span[64] << 4 | digits.span[65],
      check[1] == digits.span[66] << 4 | digits.span[67]
    else { throw .mistyped }
    return key
  }

  private static func checksum(_ key: Span<UInt8>) throws(CryptoError) -> InlineBytes32 {
    let label = Array("vnvram recovery key".utf8)
    return try Digest.sha256(label.span, key)
  }

  private static func digit(_ value: UInt8) -> UInt8 { value < 10 ? 0x30 + value : 0x61 + value - 10 }

  private static func value(of digit: UInt8) -> UInt8? {
    switch digit {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): digit - UInt8(ascii: "A") + 10
    default: nil
    }
  }
}
