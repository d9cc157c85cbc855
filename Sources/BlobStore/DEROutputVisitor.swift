import Primitives

/// Writes the fields of a device as DER. The bytes are in one buffer that is wiped when the visitor goes.
public final class DEROutputVisitor: Visitor {
  private var frames = VisitorFrames()
  private var output: DEROutput
  private let limit: Int

  /// - Parameter limit: the most bytes that may come out: the entry's capacity.
  public init(limit: Int) {
    precondition(limit >= 0)
    self.limit = limit
    output = DEROutput(limit: limit)
  }

  public var operation: NVRAMOperation { .write }

  /// What was written, after the callback has visited its fields. Lent, so that no copy is left behind.
  public func withContent<R, E: Error>(_ body: (Span<UInt8>) throws(E) -> R) throws(E) -> R {
    frames.finish()
    return try output.withContent(body)
  }

  public func visit(_ name: StaticString, _ value: inout Bool) throws(VisitorError) {
    frames.count(name)
    let content: InlineArray<1, UInt8> = [value ? 0xFF : 0]
    try put(name, DERHeader.Tag.boolean, content.span)
  }

  public func visit<I: FixedWidthInteger>(_ name: StaticString, _ value: inout I) throws(VisitorError) {
    precondition(I.bitWidth <= 64)
    frames.count(name)
    let (bytes, length) = DERInteger.encode(value)
    try put(name, DERHeader.Tag.integer, bytes.span.extracting(first: length))
  }

  public func visit(_ name: StaticString, _ value: inout String, max: Int) throws(VisitorError) {
    frames.count(name)
    let span = value.utf8Span.span
    try check(name, span.count, max)
    try put(name, DERHeader.Tag.utf8String, span)
  }

  public func visit(_ name: StaticString, _ value: inout [UInt8], max: Int) throws(VisitorError) {
    frames.count(name)
    try check(name, value.count, max)
    try put(name, DERHeader.Tag.octetString, value.span)
  }

  public func structure(
    _ name: StaticString, extensible: Bool, _ body: () throws(VisitorError) -> Void
  ) throws(VisitorError) {
    frames.count(name)
    try frames.enter(name, .structure)
    let start = output.count
    try body()
    frames.leave()
    try wrap(name, DERHeader.Tag.sequence, from: start)
  }

  public func list<Element>(
    _ name: StaticString, _ values: inout [Element], max: Int, new: @autoclosure () -> Element,
    _ body: (inout Element) throws(VisitorError) -> Void
  ) throws(VisitorError) {
    frames.count(name)
    guard values.count <= max else {
      throw frames.error(.tooLong, name, "\(values.count) elements are more than the \(max) allowed")
    }
    let start = output.count
    try frames.enter(name, .list)
    for index in values.indices {
      frames.startElement()
      try body(&values[index])
    }
    frames.leave()
    try wrap(name, DERHeader.Tag.sequence, from: start)
  }

  public func optional<Value>(
    _ name: StaticString, _ value: inout Value?, new: @autoclosure () -> Value,
    _ body: (inout Value) throws(VisitorError) -> Void
  ) throws(VisitorError) {
    let number = frames.countOptional(name)
    guard var present = value else { return }
    let start = output.count
    try frames.enter(name, .single)
    try body(&present)
    frames.leave()
    value = present
    try wrap(name, DERHeader.Tag.explicit(number), from: start)
  }

  // MARK: Bytes

  private func check(_ name: StaticString, _ size: Int, _ max: Int) throws(VisitorError) {
    guard size <= max else { throw frames.error(.tooLong, name, "\(size) bytes are more than the \(max) allowed") }
  }

  private func put(_ name: StaticString, _ tag: UInt8, _ content: Span<UInt8>) throws(VisitorError) {
    do { try output.put(tag, content) } catch { throw noRoom(name) }
  }

  private func wrap(_ name: StaticString, _ tag: UInt8, from start: Int) throws(VisitorError) {
    do { try output.wrap(tag, from: start) } catch { throw noRoom(name) }
  }

  private func noRoom(_ name: StaticString) -> VisitorError {
    frames.error(.noRoom, name, "the content has room for \(limit) bytes, and more are written")
  }
}
