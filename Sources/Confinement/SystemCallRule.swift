// One system call of a filter: what is answered, and for which arguments.

/// What a filter says of a system call. One that no rule is for, or whose arguments meet none of the rule's conditions,
/// is a violation.
public struct SystemCallRule: Sendable {
  /// What a caller gets.
  public enum Answer: Sendable, Equatable {
    case allow
    /// The call isn't made; this is its error.
    case error(Int32)
  }

  /// A test of one argument: those bits of it that `mask` has are `value`.
  struct Test: Sendable {
    let argument: UInt32
    let mask: UInt64
    let value: UInt64
  }

  public let name: String
  public let answer: Answer
  /// For which arguments, in SECURITY.md's words; empty: for all.
  public let condition: String
  /// One of these must hold; in one, all tests. Not more than one test of an argument.
  let alternatives: [[Test]]

  /// For all arguments.
  init(_ name: String, _ answer: Answer = .allow) {
    (self.name, self.answer, condition, alternatives) = (name, answer, "", [])
  }

  /// Allowed for some arguments.
  init(_ name: String, only condition: String, _ alternatives: [[Test]]) {
    (self.name, answer, self.condition, self.alternatives) = (name, .allow, condition, alternatives)
  }

  /// The same for each of these.
  static func all(_ names: [String], _ answer: Answer = .allow) -> [SystemCallRule] {
    names.map { SystemCallRule($0, answer) }
  }
}

extension SystemCallRule.Test {
  /// Of an `int` or `unsigned int`: the kernel looks at the lower half of the register only, and the C library leaves
  /// in the upper half what it likes.
  static func int(_ argument: UInt32, _ value: UInt32) -> Self {
    Self(argument: argument, mask: 0xFFFF_FFFF, value: UInt64(value))
  }

  static func int(_ argument: UInt32, _ value: Int32) -> Self { int(argument, UInt32(bitPattern: value)) }

  /// A pointer or a size that is zero.
  static func zero(_ argument: UInt32) -> Self { Self(argument: argument, mask: UInt64.max, value: 0) }

  /// No other bits of an `int` than these.
  static func within(_ argument: UInt32, _ bits: Int32) -> Self {
    Self(argument: argument, mask: UInt64(~UInt32(bitPattern: bits)), value: 0)
  }

  /// None of these bits.
  static func without(_ argument: UInt32, _ bits: Int32) -> Self {
    Self(argument: argument, mask: UInt64(UInt32(bitPattern: bits)), value: 0)
  }
}
