// Big-endian integers in spans: what the TPM's wire formats use. All indexes are checked.

extension Span<UInt8> {
  /// Reads a big-endian integer at `offset`.
  func loadBigEndian<T: FixedWidthInteger & UnsignedInteger>(_: T.Type, at offset: Int) -> T {
    var value: T = 0
    for i in 0..<(T.bitWidth / 8) { value = value << 8 | T(self[offset + i]) }
    return value
  }
}

extension MutableSpan<UInt8> {
  /// Writes `value`, big-endian, at `offset`.
  @_lifetime(self: copy self)
  mutating func storeBigEndian<T: FixedWidthInteger & UnsignedInteger>(_ value: T, at offset: Int) {
    let count = T.bitWidth / 8
    for i in 0..<count { self[offset + i] = UInt8(truncatingIfNeeded: value >> T(8 * (count - 1 - i))) }
  }
}
