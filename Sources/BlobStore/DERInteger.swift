import Primitives

/// INTEGER in its shortest form (X.690 §8.3.2): two's complement, big-endian, no leading byte that says nothing.
enum DERInteger {
  /// The longest content: 64 bits without a sign take a zero before them.
  static let maximumLength = 9

  /// The content bytes of `value`, and how many of them count.
  static func encode<I: FixedWidthInteger>(_ value: I) -> (bytes: InlineArray<9, UInt8>, count: Int) {
    let extended = value < 0 ? UInt8(0xFF) : 0
    // The value with one byte of sign before it, which an unsigned type may need.
    var bytes = InlineArray<9, UInt8>(repeating: extended)
    let width = I.bitWidth / 8
    for i in 0..<width { bytes[8 - i] = UInt8(truncatingIfNeeded: value >> I(8 * i)) }
    var first = 8 - width
    while first < 8, bytes[first] == extended, bytes[first + 1] & 0x80 == extended & 0x80 { first += 1 }
    var shifted = InlineArray<9, UInt8>(repeating: 0)
    for i in first...8 { shifted[i - first] = bytes[i] }
    return (shifted, 9 - first)
  }

  enum Failure: Error { case malformed, outOfRange }

  /// The value of content bytes.
  static func decode<I: FixedWidthInteger>(_ bytes: Span<UInt8>, as: I.Type) throws(Failure) -> I {
    guard bytes.count > 0 else { throw .malformed }
    let isNegative = bytes[0] & 0x80 != 0
    if bytes.count > 1, bytes[0] == (isNegative ? 0xFF : 0), (bytes[1] & 0x80 != 0) == isNegative { throw .malformed }
    guard bytes.count <= maximumLength, I.isSigned || !isNegative else { throw .outOfRange }
    guard bytes.count < maximumLength || bytes[0] == 0 else { throw .outOfRange }
    var pattern: UInt64 = isNegative ? .max : 0
    for i in bytes.indices { pattern = pattern << 8 | UInt64(bytes[i]) }
    if isNegative {
      guard let value = I(exactly: Int64(bitPattern: pattern)) else { throw .outOfRange }
      return value
    }
    guard let value = I(exactly: pattern) else { throw .outOfRange }
    return value
  }
}
