/// What a device's callback is asked to do; the 2013 design's READ, WRITE and FORMAT.
public enum NVRAMOperation: Sendable {
  /// Fields are set from the content.
  case read
  /// The content is made from the fields.
  case write
  /// The largest size that the content can have is worked out; fields are neither read nor set.
  case format
}

/// A device's description of its state: it visits each field once, and reading, writing and sizing follow from that.
///
///     struct PersistentState {
///       var isEnabled = false
///       var tries: UInt32 = 0
///       var owner = ""
///       var seed: [UInt8] = []
///       var registers: [[UInt8]] = []
///       var lockout: UInt64?
///
///       mutating func fields(_ operation: NVRAMOperation, _ v: any Visitor) throws(VisitorError) {
///         try v.structure("state", extensible: true) { () throws(VisitorError) in
///           try v.visit("enabled", &isEnabled)
///           try v.visit("tries", &tries)
///           try v.visit("owner", &owner, max: 64)
///           try v.visit("seed", &seed, max: 32)
///           try v.list("registers", &registers, max: 24, new: []) { (register) throws(VisitorError) in
///             try v.visit("digest", &register, max: 64)
///           }
///           try v.optional("lockout", &lockout, new: 0) { (until) throws(VisitorError) in
///             try v.visit("until", &until)
///           }
///         }
///       }
///     }
public typealias NVRAMFields = (NVRAMOperation, any Visitor) throws(VisitorError) -> Void

/// Visits fields in one of three directions: `DERInputVisitor`, `DEROutputVisitor`, `SizingVisitor`.
///
/// The encoding (DER, X.690), the same for all three:
/// - Bool: BOOLEAN, `00` or `FF`. Integers: INTEGER in its shortest form. Strings: UTF8String. Bytes: OCTET STRING.
/// - A structure: SEQUENCE of its fields in the order of the visits. A list: SEQUENCE of its elements.
/// - An optional field that is there: [n] EXPLICIT, n counting the optional fields of its structure from 0, present or
///   not; one that isn't there takes no bytes. At most 31 in a structure.
/// - A content is exactly one field, nearly always a structure, and nothing follows it.
///
/// A newer version adds fields at the end of structures marked `extensible` from the start: an older one skips what
/// follows the last field it knows (and does not write it again). Other structures refuse unknown fields.
///
/// What an input visitor accepts, an output visitor writes again byte for byte, unless unknown fields were skipped.
///
/// A callback visits the same fields in the same order whatever the operation and the values, exactly one in each
/// element of a list and in each optional field (visit a structure where there are more); else it traps. It passes
/// errors on: after one the visitor is of no more use, and fields that were being read are partly set.
public protocol Visitor: AnyObject {
  var operation: NVRAMOperation { get }

  func visit(_ name: StaticString, _ value: inout Bool) throws(VisitorError)

  /// Integers of 8 to 64 bits, signed or not. Reading: `.outOfRange` where the type doesn't hold the value.
  func visit<I: FixedWidthInteger>(_ name: StaticString, _ value: inout I) throws(VisitorError)

  /// A string of at most `max` bytes of UTF-8.
  func visit(_ name: StaticString, _ value: inout String, max: Int) throws(VisitorError)

  /// At most `max` bytes.
  func visit(_ name: StaticString, _ value: inout [UInt8], max: Int) throws(VisitorError)

  /// The fields that `body` visits.
  func structure(
    _ name: StaticString, extensible: Bool, _ body: () throws(VisitorError) -> Void) throws(VisitorError)

  /// At most `max` elements; `body` visits one, which is `new()` before it is read or sized.
  func list<Element>(
    _ name: StaticString, _ values: inout [Element], max: Int, new: @autoclosure () -> Element,
    _ body: (inout Element) throws(VisitorError) -> Void) throws(VisitorError)

  /// A field that may be `nil`; `body` visits its value, which is `new()` before it is read or sized.
  func optional<Value>(
    _ name: StaticString, _ value: inout Value?, new: @autoclosure () -> Value,
    _ body: (inout Value) throws(VisitorError) -> Void) throws(VisitorError)
}

extension Visitor {
  /// A structure that refuses unknown fields.
  public func structure(
    _ name: StaticString, _ body: () throws(VisitorError) -> Void
  ) throws(VisitorError) {
    try structure(name, extensible: false, body)
  }
}
