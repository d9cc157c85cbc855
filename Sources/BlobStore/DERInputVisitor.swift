import Primitives

/// Sets the fields of a device from DER. Nothing but the one encoding of the fields is accepted (but for unknown fields
/// at the end of extensible structures), and every length is checked against the field's maximum before memory is
/// taken. Its copy of the content is wiped when the visitor goes.
public final class DERInputVisitor: Visitor {
  private var frames = VisitorFrames()
  private let content: DERContent
  private var position = 0
  /// The end of the innermost structure, list or optional field.
  private var end: Int

  /// - Parameter count: how many bytes of `content` there are.
  public init(_ content: consuming ByteBuffer, count: Int) {
    self.content = DERContent(content, count: count)
    end = count
  }

  public convenience init(_ content: Span<UInt8>) {
    var copy = ByteBuffer(count: content.count)
    copy.copy(from: content)
    self.init(copy, count: content.count)
  }

  public var operation: NVRAMOperation { .read }

  /// To be called after the callback has visited its fields: refuses what follows them.
  public func finish() throws(VisitorError) {
    frames.finish()
    guard position == end else { throw VisitorError(.malformed, field: "", "bytes follow the content's one field") }
  }

  public func visit(_ name: StaticString, _ value: inout Bool) throws(VisitorError) {
    frames.count(name)
    let range = try take(name, DERHeader.Tag.boolean, max: .max)
    guard range.count == 1, [0, 0xFF].contains(content[range.lowerBound]) else {
      throw frames.error(.malformed, name, "no truth value in its one form")
    }
    value = content[range.lowerBound] != 0
  }

  public func visit<I: FixedWidthInteger>(_ name: StaticString, _ value: inout I) throws(VisitorError) {
    precondition(I.bitWidth <= 64)
    frames.count(name)
    let range = try take(name, DERHeader.Tag.integer, max: .max)
    do {
      value = try content.integer(range, as: I.self)
    } catch {
      switch error {
      case .malformed: throw frames.error(.malformed, name, "no number in its shortest form")
      case .outOfRange:
        throw frames.error(.outOfRange, name, "the number is not within \(I.min) to \(I.max)")
      }
    }
  }

  public func visit(_ name: StaticString, _ value: inout String, max: Int) throws(VisitorError) {
    frames.count(name)
    let range = try take(name, DERHeader.Tag.utf8String, max: max)
    guard let text = String(validating: content.array(range), as: UTF8.self) else {
      throw frames.error(.malformed, name, "the string is not UTF-8")
    }
    value = text
  }

  public func visit(_ name: StaticString, _ value: inout [UInt8], max: Int) throws(VisitorError) {
    frames.count(name)
    value = content.array(try take(name, DERHeader.Tag.octetString, max: max))
  }

  public func structure(
    _ name: StaticString, extensible: Bool, _ body: () throws(VisitorError) -> Void
  ) throws(VisitorError) {
    frames.count(name)
    let outside = try enter(name, DERHeader.Tag.sequence, .structure)
    try body()
    if position < end {
      guard extensible else { throw frames.error(.unknownField, "", "the structure has fields of a newer version") }
      try skipUnknownFields()
    }
    leave(outside)
  }

  public func list<Element>(
    _ name: StaticString, _ values: inout [Element], max: Int, new: @autoclosure () -> Element,
    _ body: (inout Element) throws(VisitorError) -> Void
  ) throws(VisitorError) {
    frames.count(name)
    let outside = try enter(name, DERHeader.Tag.sequence, .list)
    values.removeAll(keepingCapacity: true)
    while position < end {
      guard values.count < max else { throw frames.error(.tooLong, "", "more than \(max) elements") }
      var element = new()
      frames.startElement()
      try body(&element)
      values.append(element)
    }
    leave(outside)
  }

  public func optional<Value>(
    _ name: StaticString, _ value: inout Value?, new: @autoclosure () -> Value,
    _ body: (inout Value) throws(VisitorError) -> Void
  ) throws(VisitorError) {
    let tag = DERHeader.Tag.explicit(frames.countOptional(name))
    guard position < end, content[position] == tag else {
      value = nil
      return
    }
    let outside = try enter(name, tag, .single)
    var present = new()
    try body(&present)
    guard position == end else { throw frames.error(.malformed, "", "bytes follow the optional field's value") }
    leave(outside)
    value = present
  }

  // MARK: Elements

  /// Takes one element of the content; returns where its content is.
  private func take(_ name: StaticString, _ tag: UInt8, max: Int) throws(VisitorError) -> Range<Int> {
    let header = try header(name)
    guard header.tag == tag else { throw frames.error(.wrongType, name, "another type than expected") }
    guard header.length <= UInt64(max) else {
      throw frames.error(.tooLong, name, "\(header.length) bytes are more than the \(max) allowed")
    }
    let start = position + header.size
    position = start + Int(header.length)
    return start..<position
  }

  /// The header of the next element, which ends within the innermost frame.
  private func header(_ name: StaticString) throws(VisitorError) -> DERHeader {
    guard position < end else { throw frames.error(.wrongType, name, "the field is not there") }
    let header: DERHeader
    do { header = try content.header(at: position, end: end) } catch {
      throw frames.error(.malformed, name, error.text)
    }
    guard header.size <= end - position, header.length <= UInt64(end - position - header.size) else {
      throw frames.error(.malformed, name, "longer than what holds it")
    }
    return header
  }

  /// Enters an element; returns the end of the frame outside.
  private func enter(
    _ name: StaticString, _ tag: UInt8, _ kind: VisitorFrames.Kind
  ) throws(VisitorError) -> Int {
    let inside = try take(name, tag, max: .max)
    try frames.enter(name, kind)
    position = inside.lowerBound
    defer { end = inside.upperBound }
    return end
  }

  private func leave(_ outside: Int) {
    frames.leave()
    end = outside
  }

  // MARK: Unknown fields

  /// Skips fields of a newer version. They must be DER all the same, and none may be an optional field that is known:
  /// it would stand in the wrong place.
  private func skipUnknownFields() throws(VisitorError) {
    while position < end {
      let tag = content[position]
      if tag & 0xE0 == 0xA0, Int(tag & 0x1F) < frames.optionals {
        throw frames.error(.malformed, "", "an optional field in the wrong place")
      }
      position = try skip(from: position, to: end, depth: 1)
    }
  }

  /// The end of the well-formed element at `start`.
  private func skip(from start: Int, to end: Int, depth: Int) throws(VisitorError) -> Int {
    guard depth <= VisitorFrames.maximumDepth else {
      throw frames.error(.tooDeep, "", "unknown fields nested more than \(VisitorFrames.maximumDepth) deep")
    }
    let header: DERHeader
    do { header = try content.header(at: start, end: end) } catch {
      throw frames.error(.malformed, "", error.text)
    }
    guard header.length <= UInt64(end - start - header.size) else {
      throw frames.error(.malformed, "", "an unknown field is longer than what holds it")
    }
    let stop = start + header.size + Int(header.length)
    if header.tag & 0x20 != 0 {
      var inner = start + header.size
      while inner < stop { inner = try skip(from: inner, to: stop, depth: depth + 1) }
    }
    return stop
  }
}
