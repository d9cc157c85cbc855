import Crypto
import Primitives
import ProgramIO

/// A recovery key as people keep it (FORMAT §3): 64 hexadecimal digits in groups of eight, and four more that catch
/// slips. The text is a secret like the key, and never a `String`.
enum RecoveryKey {
  /// Characters of a printed key: 68 digits and eight hyphens.
  static let textSize = 76
  /// What is read at most; spaces and hyphens don't count, but someone may have put in many.
  static let readLimit = 1024

  /// The printed form, and a newline.
  static func text(_ key: borrowing SecretBytes) throws -> SecretBytes {
    var text = SecretBytes(count: textSize + 1)
    var out = text.mutableSpan
    let check = try Digest.sha256(label.span, key.span)
    var place = 0
    for index in 0..<34 {
      if index > 0, index % 4 == 0 {
        out[place] = UInt8(ascii: "-")
        place += 1
      }
      let byte = index < 32 ? key.span[index] : check[index - 32]
      out[place] = digit(byte >> 4)
      out[place + 1] = digit(byte & 0xF)
      place += 2
    }
    out[place] = 0x0A
    return text
  }

  /// Reads a printed key from a descriptor.
  ///
  /// - Throws: `.wrongKey` where it has another number of digits, or the check digits say that one is wrong.
  static func read(descriptor: Int32) throws -> SecretBytes {
    let input = InputFile(descriptor: descriptor, name: "descriptor \(descriptor)")
    return try parse(try input.readSecretLine(limit: readLimit))
  }

  static func parse(_ text: borrowing SecretBytes) throws -> SecretBytes {
    var bytes = SecretBytes(count: 34)
    var digits = 0
    let characters = text.span
    for index in characters.indices {
      let character = characters[index]
      // Space, tab, carriage return, hyphen.
      if [0x20, 0x09, 0x0D, 0x2D].contains(character) { continue }
      guard let value = value(character), digits < 68 else {
        throw Failure(.wrongKey, "that is not a recovery key: it has 64 hexadecimal digits and four more to check them")
      }
      var all = bytes.mutableSpan
      all[digits / 2] |= digits % 2 == 0 ? value << 4 : value
      digits += 1
    }
    guard digits == 68 else {
      throw Failure(
        .wrongKey, "that recovery key has \(digits) hexadecimal digits in place of 68; it is not complete")
    }
    let check = try Digest.sha256(label.span, bytes.span.extracting(first: 32))
    guard check[0] == bytes.span[32], check[1] == bytes.span[33] else {
      throw Failure(.wrongKey, "that recovery key has a slip in it: its last four digits don't fit the others")
    }
    return bytes.prefix(32)
  }

  private static let label = Array("vnvram recovery key".utf8)

  private static func digit(_ value: UInt8) -> UInt8 { value < 10 ? 0x30 + value : 0x61 + value - 10 }

  private static func value(_ character: UInt8) -> UInt8? {
    switch character {
    case 0x30...0x39: character - 0x30
    case 0x41...0x46: character - 0x41 + 10
    case 0x61...0x66: character - 0x61 + 10
    default: nil
    }
  }
}
