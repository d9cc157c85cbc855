import Primitives

/// Where a visitor is: the structures, lists and optional fields around it. Common to all three directions, so that
/// they agree on numbers of optional fields, on depth, and on what a description must not do.
struct VisitorFrames {
  /// How deep frames may nest.
  static let maximumDepth = 16
  /// Tag numbers of one byte, [0] to [30].
  static let maximumOptionals = 31

  enum Kind {
    /// The content itself, or an optional field's inside: exactly one field.
    case single
    /// Any number of elements, each exactly one field.
    case list
    /// Any number of fields.
    case structure
  }

  private struct Frame {
    let name: StaticString
    let kind: Kind
    /// Fields so far; in a list, in this element.
    var fields: Int
    var optionals = 0

    init(_ name: StaticString, _ kind: Kind) {
      self.name = name
      self.kind = kind
      fields = kind == .list ? 1 : 0
    }
  }

  private var frames = [Frame("", .single)]

  /// The path to a field, for messages.
  func path(_ name: StaticString) -> String {
    (frames.dropFirst().map(\.name.description) + [name.description]).joined(separator: ".")
  }

  func error(_ code: VisitorError.Code, _ name: StaticString, _ detail: String) -> VisitorError {
    VisitorError(code, field: path(name), detail)
  }

  /// Every visit begins with this.
  mutating func count(_ name: StaticString) {
    let last = frames.count - 1
    precondition(
      frames[last].kind == .structure || frames[last].fields == 0,
      "contents, elements and optional fields hold one field; visit a structure")
    frames[last].fields += 1
  }

  /// The number of an optional field. Every visit of one begins with this instead.
  mutating func countOptional(_ name: StaticString) -> Int {
    let last = frames.count - 1
    precondition(frames[last].kind == .structure, "optional fields lie in structures")
    precondition(frames[last].optionals < Self.maximumOptionals, "at most 31 optional fields")
    defer { frames[last].optionals += 1 }
    return frames[last].optionals
  }

  mutating func enter(_ name: StaticString, _ kind: Kind) throws(VisitorError) {
    guard frames.count <= Self.maximumDepth else { throw error(.tooDeep, name, "nested more than 16 deep") }
    frames.append(Frame(name, kind))
  }

  /// Ends the innermost frame. (After an error nobody does: the visitor is of no more use.)
  mutating func leave() {
    let frame = frames.removeLast()
    precondition(frame.kind == .structure || frame.fields == 1, "an element or optional field visits its field")
  }

  /// The innermost frame's next element begins.
  mutating func startElement() {
    precondition(frames[frames.count - 1].fields == 1, "an element visits its field")
    frames[frames.count - 1].fields = 0
  }

  /// How many optional fields of the innermost structure have been visited.
  var optionals: Int { frames[frames.count - 1].optionals }

  /// The content is complete.
  func finish() {
    precondition(frames.count == 1 && frames[0].fields == 1, "a content is one field")
  }
}
