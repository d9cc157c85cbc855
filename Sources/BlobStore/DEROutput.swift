import Primitives

/// Growing bytes of DER with a limit. Wiped when it goes, and whenever it moves.
struct DEROutput: ~Copyable {
  private var buffer: ByteBuffer
  private(set) var count = 0
  private let limit: Int

  /// - Parameter limit: the most bytes there may be.
  init(limit: Int) {
    self.limit = limit
    buffer = ByteBuffer(count: min(limit, 1024))
  }

  enum Failure: Error { case noRoom }

  func withContent<R, E: Error>(_ body: (Span<UInt8>) throws(E) -> R) throws(E) -> R {
    try body(buffer.span(0..<count))
  }

  /// Appends an element.
  mutating func put(_ tag: UInt8, _ content: Span<UInt8>) throws(Failure) {
    let header = DERHeader(tag: tag, length: content.count)
    try reserve(header.size + content.count)
    let end = count
    var out = buffer.mutableSpan
    header.write(to: &out, at: end)
    out.copy(from: content, at: end + header.size)
    count = end + header.size + content.count
  }

  /// Puts a header before what was written since `start`. Its size is only known now, so that the rest moves up.
  mutating func wrap(_ tag: UInt8, from start: Int) throws(Failure) {
    let header = DERHeader(tag: tag, length: count - start)
    try reserve(header.size)
    let end = count
    var out = buffer.mutableSpan
    for i in stride(from: end - 1, through: start, by: -1) { out[i + header.size] = out[i] }
    header.write(to: &out, at: start)
    count = end + header.size
  }

  private mutating func reserve(_ more: Int) throws(Failure) {
    guard more <= limit - count else { throw .noRoom }
    guard count + more > buffer.count else { return }
    var larger = ByteBuffer(count: min(limit, max(buffer.count * 2, count + more)))
    larger.copy(from: buffer.span(0..<count))
    buffer = larger
  }
}
