import Primitives

/// What a visitor met. Equality is on the code; `field` is the path to the field, as the description names them.
public struct VisitorError: StatusError, Equatable {
  public enum Code: Sendable, Equatable {
    /// Reading: no DER, or not in its one form.
    case malformed
    /// Reading: another type than the description's, or nothing where a field should be.
    case wrongType
    /// A number that the field's type doesn't hold.
    case outOfRange
    /// More bytes or elements than the field's maximum.
    case tooLong
    /// Reading: fields that the description doesn't know, in a structure that isn't extensible.
    case unknownField
    /// Structures, lists and optional fields nested more than 16 deep.
    case tooDeep
    /// Writing: more bytes in all than the output may have.
    case noRoom
  }

  public let code: Code
  public let field: String
  /// One sentence without the field: what is wrong.
  public let detail: String

  public init(_ code: Code, field: String, _ detail: String) {
    self.code = code
    self.field = field
    self.detail = detail
  }

  public static func == (a: Self, b: Self) -> Bool { a.code == b.code }

  public var status: Status {
    switch code {
    case .malformed, .wrongType, .outOfRange: .notAuthentic
    case .unknownField: .notAnImage
    case .tooLong, .tooDeep, .noRoom: .noSpace
    }
  }

  public var description: String { field.isEmpty ? detail : "\(field): \(detail)" }
}
