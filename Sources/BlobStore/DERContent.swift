import Primitives

/// The bytes that an input visitor reads, and the few ways to look at them. Wiped when it goes.
struct DERContent: ~Copyable {
  private let buffer: ByteBuffer
  let count: Int

  init(_ buffer: consuming ByteBuffer, count: Int) {
    precondition(count >= 0 && count <= buffer.count)
    self.buffer = buffer
    self.count = count
  }

  subscript(offset: Int) -> UInt8 { buffer.span[offset] }

  /// The header at `offset`, within bytes that end at `end`.
  func header(at offset: Int, end: Int) throws(DERHeader.Malformation) -> DERHeader {
    try DERHeader(buffer.span(0..<end), at: offset)
  }

  func array(_ range: Range<Int>) -> [UInt8] { buffer.span(range).array }

  func integer<I: FixedWidthInteger>(_ range: Range<Int>, as: I.Type) throws(DERInteger.Failure) -> I {
    try DERInteger.decode(buffer.span(range), as: I.self)
  }
}
