import BlobStore
import Primitives

/// Visitors: any sequence of visits over any bytes. What is read is written again byte for byte; what is written is
/// read as it was; the size that is foretold is enough.
enum FieldsTarget {
  /// What a device's callback visits.
  indirect enum Shape {
    case bool
    case integer(Int)
    case string(max: Int)
    case bytes(max: Int)
    case structure(extensible: Bool, [Shape])
    case list(max: Int, Shape)
    case optional(Shape)

    var isOptional: Bool { if case .optional = self { true } else { false } }
    /// Whether unknown fields may be skipped, which aren't written again.
    var skips: Bool {
      switch self {
      case .bool, .integer, .string, .bytes: false
      case .structure(let extensible, let fields): extensible || fields.contains(where: \.skips)
      case .list(_, let element): element.skips
      case .optional(let value): value.skips
      }
    }
  }

  /// Of any shape.
  final class Value {
    var number: UInt64 = 0
    var text = ""
    var bytes: [UInt8] = []
    var parts: [Value] = []
  }

  /// `u8 mode, shape, values or DER`.
  static func run(_ bytes: [UInt8]) {
    var input = FuzzInput(bytes)
    let writes = input.byte() & 1 == 1
    var budget = 60
    let shape = shape(&input, depth: 0, optional: false, &budget)
    if writes {
      var budget = 200
      let value = value(of: shape, &input, &budget)
      guard let content = write(shape, value, limit: 4096) else { return }
      let again = Value()
      do throws(VisitorError) { try read(shape, again, content) } catch { fatalError("what was written: \(error)") }
      require(write(shape, again, limit: 4096) == content, "read differently from what was written")
      checkSize(shape, content.count)
    } else {
      let content = input.rest()
      let value = Value()
      guard (try? read(shape, value, content)) != nil else { return }
      let again = write(shape, value, limit: content.count)
      require(again != nil, "what was read can't be written")
      require(shape.skips || again == content, "a second encoding")
      checkSize(shape, again?.count ?? 0)
    }
  }

  /// For seeds: the input that reads what an input writes; `nil` where it writes nothing.
  static func reading(_ writing: [UInt8]) -> [UInt8]? {
    var input = FuzzInput(writing)
    _ = input.byte()
    var budget = 60
    let shape = shape(&input, depth: 0, optional: false, &budget)
    let head = writing.count - input.left
    budget = 200
    let value = value(of: shape, &input, &budget)
    return write(shape, value, limit: 4096).map { [0] + writing[1..<max(1, head)] + $0 }
  }

  // MARK: Shapes and values

  private static func shape(_ input: inout FuzzInput, depth: Int, optional: Bool, _ budget: inout Int) -> Shape {
    budget -= 1
    guard budget > 0, depth < 20 else { return .bool }
    switch input.byte() % (optional ? 8 : 7) {
    case 0: return .bool
    case 1: return .integer(Int(input.byte() & 7))
    case 2: return .string(max: Int(input.byte()))
    case 3: return .bytes(max: input.u16())
    case 4, 5:
      let head = input.byte()
      var fields: [Shape] = []
      for _ in 0..<(head & 31) {
        // No structure has more optional fields than there are tags for them.
        let mayBeOptional = fields.count(where: \.isOptional) < 31
        fields.append(Self.shape(&input, depth: depth + 1, optional: mayBeOptional, &budget))
      }
      return .structure(extensible: head & 128 != 0, fields)
    case 6: return .list(max: Int(input.byte()), Self.shape(&input, depth: depth + 1, optional: false, &budget))
    default: return .optional(Self.shape(&input, depth: depth + 1, optional: false, &budget))
    }
  }

  private static func value(of shape: Shape, _ input: inout FuzzInput, _ budget: inout Int) -> Value {
    let value = Value()
    budget -= 1
    switch shape {
    case .bool: value.number = UInt64(input.byte() & 1)
    case .integer: value.number = input.variant(of: 0x80)
    case .string: value.text = String(decoding: input.take(Int(input.byte())), as: UTF8.self)
    case .bytes: value.bytes = input.take(Int(input.byte()))
    case .structure(_, let fields):
      for field in fields { value.parts.append(Self.value(of: field, &input, &budget)) }
    case .list(_, let element):
      for _ in 0..<(input.byte() & 15) where budget > 0 {
        value.parts.append(Self.value(of: element, &input, &budget))
      }
    case .optional(let inner):
      if input.byte() & 1 == 1, budget > 0 { value.parts = [Self.value(of: inner, &input, &budget)] }
    }
    return value
  }

  // MARK: Visiting

  private static func visit(_ shape: Shape, _ value: Value, _ visitor: any Visitor) throws(VisitorError) {
    switch shape {
    case .bool:
      var flag = value.number & 1 == 1
      try visitor.visit("flag", &flag)
      value.number = flag ? 1 : 0
    case .integer(let kind): try visitInteger(kind, value, visitor)
    case .string(let max): try visitor.visit("text", &value.text, max: max)
    case .bytes(let max): try visitor.visit("bytes", &value.bytes, max: max)
    case .structure(let extensible, let fields):
      while value.parts.count < fields.count { value.parts.append(Value()) }
      try visitor.structure("structure", extensible: extensible) { () throws(VisitorError) in
        for (field, part) in zip(fields, value.parts) { try visit(field, part, visitor) }
      }
    case .list(let max, let element):
      try visitor.list("list", &value.parts, max: max, new: Value()) { (part) throws(VisitorError) in
        try visit(element, part, visitor)
      }
    case .optional(let inner):
      var present = value.parts.first
      try visitor.optional("optional", &present, new: Value()) { (part) throws(VisitorError) in
        try visit(inner, part, visitor)
      }
      value.parts = present.map { [$0] } ?? []
    }
  }

  private static func visitInteger(_ kind: Int, _ value: Value, _ visitor: any Visitor) throws(VisitorError) {
    switch kind {
    case 0: try visitInteger(Int8.self, value, visitor)
    case 1: try visitInteger(Int16.self, value, visitor)
    case 2: try visitInteger(Int32.self, value, visitor)
    case 3: try visitInteger(Int64.self, value, visitor)
    case 4: try visitInteger(UInt8.self, value, visitor)
    case 5: try visitInteger(UInt16.self, value, visitor)
    case 6: try visitInteger(UInt32.self, value, visitor)
    default: try visitInteger(UInt64.self, value, visitor)
    }
  }

  private static func visitInteger<I: FixedWidthInteger>(
    _: I.Type, _ value: Value, _ visitor: any Visitor
  ) throws(VisitorError) {
    var number = I(truncatingIfNeeded: value.number)
    try visitor.visit("number", &number)
    value.number = UInt64(truncatingIfNeeded: number)
  }

  private static func read(_ shape: Shape, _ value: Value, _ content: [UInt8]) throws(VisitorError) {
    let visitor = DERInputVisitor(content.span)
    require(visitor.operation == .read, "an input visitor reads")
    try visit(shape, value, visitor)
    try visitor.finish()
  }

  private static func write(_ shape: Shape, _ value: Value, limit: Int) -> [UInt8]? {
    let visitor = DEROutputVisitor(limit: limit)
    guard (try? visit(shape, value, visitor)) != nil else { return nil }
    return visitor.withContent { $0.array }
  }

  private static func checkSize(_ shape: Shape, _ size: Int) {
    let visitor = SizingVisitor()
    do throws(VisitorError) { try visit(shape, Value(), visitor) } catch {
      // What is too deep may not have been there when it was read.
      require(error.code == .tooDeep, "sizing: \(error)")
      return
    }
    require(visitor.maximumSize.value >= UInt64(size), "\(size) bytes, and \(visitor.maximumSize) were foretold")
  }
}
