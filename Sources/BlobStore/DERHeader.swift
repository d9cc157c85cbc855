import Primitives

/// The first bytes of a DER element (X.690 §8.1, §10.1): a tag of one byte and a definite length in its shortest form.
/// Nothing else is read or written, so that an element has one encoding. (Written here rather than taken from
/// swift-asn1, which brings Foundation into servers that must stay small, and which wants whole streams in memory.)
struct DERHeader: Equatable, Sendable {
  /// The tags of the formats here.
  enum Tag {
    static let boolean: UInt8 = 0x01
    static let integer: UInt8 = 0x02
    static let octetString: UInt8 = 0x04
    static let utf8String: UInt8 = 0x0C
    static let sequence: UInt8 = 0x30
    /// [0], primitive: a blob's padding.
    static let padding: UInt8 = 0x80
    /// [n], constructed.
    static func explicit(_ number: Int) -> UInt8 { 0xA0 | UInt8(number) }
  }

  /// Why bytes are no header.
  enum Malformation: Error, Equatable {
    /// The bytes end before the header does.
    case truncated
    /// A tag number above 30, in several bytes.
    case longTag
    case indefiniteLength
    /// A length in more bytes than it needs.
    case longLength
    /// A length of 2^63 or more.
    case hugeLength

    var text: String {
      switch self {
      case .truncated: "the end comes within an element's header"
      case .longTag: "a tag of several bytes"
      case .indefiniteLength: "an indefinite length"
      case .longLength: "a length in more bytes than it needs"
      case .hugeLength: "a length beyond 2^63"
      }
    }
  }

  /// The longest header: tag, length of the length, eight bytes.
  static let maximumSize = 10

  var tag: UInt8
  /// Bytes of content that follow the header.
  var length: UInt64

  /// Bytes that the header takes.
  var size: Int { Self.size(length: length) }
  /// Bytes that header and content take.
  var elementSize: UInt64 { UInt64(size) + length }

  /// Bytes that the header of an element with `length` bytes of content takes.
  static func size(length: UInt64) -> Int {
    length < 128 ? 2 : 2 + (71 - length.leadingZeroBitCount) / 8
  }

  init(tag: UInt8, length: UInt64) {
    self.tag = tag
    self.length = length
  }

  init(tag: UInt8, length: Int) { self.init(tag: tag, length: UInt64(length)) }

  /// Reads the header that starts at `offset` of `bytes`.
  init(_ bytes: Span<UInt8>, at offset: Int) throws(Malformation) {
    guard bytes.count - offset >= 2 else { throw .truncated }
    tag = bytes[offset]
    guard tag & 0x1F != 0x1F else { throw .longTag }
    let first = bytes[offset + 1]
    guard first >= 0x80 else {
      length = UInt64(first)
      return
    }
    let count = Int(first & 0x7F)
    guard count > 0 else { throw .indefiniteLength }
    guard count <= 8 else { throw .hugeLength }
    guard bytes.count - offset >= 2 + count else { throw .truncated }
    guard bytes[offset + 2] != 0 else { throw .longLength }
    var value: UInt64 = 0
    for i in 0..<count { value = value << 8 | UInt64(bytes[offset + 2 + i]) }
    guard value >= 128 else { throw .longLength }
    guard value <= UInt64(Int64.max) else { throw .hugeLength }
    length = value
  }

  /// Writes the header at `offset`.
  @_lifetime(bytes: copy bytes)
  func write(to bytes: inout MutableSpan<UInt8>, at offset: Int) {
    bytes[offset] = tag
    let count = size - 2
    bytes[offset + 1] = count == 0 ? UInt8(length) : 0x80 | UInt8(count)
    for i in 0..<count {
      bytes[offset + 2 + i] = UInt8(truncatingIfNeeded: length >> UInt64(8 * (count - 1 - i)))
    }
  }

  /// The header's bytes.
  var bytes: [UInt8] {
    var out = [UInt8](repeating: 0, count: size)
    var span = out.mutableSpan
    write(to: &span, at: 0)
    return out
  }
}
