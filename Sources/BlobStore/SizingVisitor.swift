import Primitives

/// The largest size that a content of this description can have, whatever the values: the capacity to format an entry
/// with. Lists are full, optional fields there, strings at their maximum.
public final class SizingVisitor: Visitor {
  private var frames = VisitorFrames()
  /// Bytes in the innermost frame so far. Saturates: no capacity is near 2^64.
  private var total: UInt64 = 0

  public init() {}

  public var operation: NVRAMOperation { .format }

  /// The size, in bytes, after the callback has visited its fields.
  public var maximumSize: ByteCount {
    frames.finish()
    return ByteCount(total)
  }

  /// The largest size of what `fields` visits.
  public static func maximumSize(_ fields: NVRAMFields) throws(VisitorError) -> ByteCount {
    let visitor = SizingVisitor()
    try fields(.format, visitor)
    return visitor.maximumSize
  }

  private func add(element length: UInt64) {
    let limited = min(length, UInt64(Int64.max))
    total = Self.sum(total, DERHeader(tag: 0, length: limited).elementSize)
  }

  private static func sum(_ a: UInt64, _ b: UInt64) -> UInt64 {
    let (sum, overflow) = a.addingReportingOverflow(b)
    return overflow ? .max : sum
  }

  public func visit(_ name: StaticString, _ value: inout Bool) throws(VisitorError) {
    frames.count(name)
    add(element: 1)
  }

  public func visit<I: FixedWidthInteger>(_ name: StaticString, _ value: inout I) throws(VisitorError) {
    precondition(I.bitWidth <= 64)
    frames.count(name)
    // An unsigned integer with its highest bit set takes a zero before it.
    add(element: UInt64(I.bitWidth / 8 + (I.isSigned ? 0 : 1)))
  }

  public func visit(_ name: StaticString, _ value: inout String, max: Int) throws(VisitorError) {
    frames.count(name)
    add(element: UInt64(max))
  }

  public func visit(_ name: StaticString, _ value: inout [UInt8], max: Int) throws(VisitorError) {
    frames.count(name)
    add(element: UInt64(max))
  }

  public func structure(
    _ name: StaticString, extensible: Bool, _ body: () throws(VisitorError) -> Void
  ) throws(VisitorError) {
    frames.count(name)
    add(element: try inside(name, .structure, body))
  }

  public func list<Element>(
    _ name: StaticString, _ values: inout [Element], max: Int, new: @autoclosure () -> Element,
    _ body: (inout Element) throws(VisitorError) -> Void
  ) throws(VisitorError) {
    precondition(max >= 0)
    frames.count(name)
    var element = new()
    let size = try inside(name, .list) { () throws(VisitorError) in
      frames.startElement()
      try body(&element)
    }
    let (product, overflow) = size.multipliedReportingOverflow(by: UInt64(max))
    add(element: overflow ? .max : product)
  }

  public func optional<Value>(
    _ name: StaticString, _ value: inout Value?, new: @autoclosure () -> Value,
    _ body: (inout Value) throws(VisitorError) -> Void
  ) throws(VisitorError) {
    _ = frames.countOptional(name)
    var present = new()
    add(element: try inside(name, .single) { () throws(VisitorError) in try body(&present) })
  }

  /// The size of what `body` visits.
  private func inside(
    _ name: StaticString, _ kind: VisitorFrames.Kind, _ body: () throws(VisitorError) -> Void
  ) throws(VisitorError) -> UInt64 {
    try frames.enter(name, kind)
    let outside = total
    total = 0
    try body()
    frames.leave()
    defer { total = outside }
    return total
  }
}
