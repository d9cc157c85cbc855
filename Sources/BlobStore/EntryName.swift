import Primitives

/// An entry's name: 1 to 120 bytes of UTF-8 without control characters (FORMAT §8), so that it can be shown as it is.
/// Names are equal when their bytes are; two ways to compose an accented letter are two names.
public struct EntryName: Hashable, Sendable, CustomStringConvertible, ExpressibleByStringLiteral {
  /// In bytes.
  public static let maximumSize = 120

  public let text: String

  /// - Throws: `.invalidName`.
  public init(_ text: String) throws(BlobStoreError) {
    guard Self.isValid(text) else {
      throw BlobStoreError(
        .invalidName, store: nil,
        "an entry's name has 1 to \(Self.maximumSize) bytes of UTF-8 and no control characters")
    }
    self.text = text
  }

  /// For names that the program itself gives; an invalid one traps.
  public init(stringLiteral text: String) {
    precondition(Self.isValid(text))
    self.text = text
  }

  /// `nil` where the bytes are no valid name.
  init?(_ bytes: [UInt8]) {
    guard let text = String(validating: bytes, as: UTF8.self), Self.isValid(text) else { return nil }
    self.text = text
  }

  private static func isValid(_ text: String) -> Bool {
    (1...maximumSize).contains(text.utf8.count)
      && text.unicodeScalars.allSatisfy { $0.value >= 0x20 && !(0x7F..<0xA0).contains($0.value) }
  }

  /// Bytes of UTF-8.
  var size: Int { text.utf8.count }

  public var description: String { text }

  public static func == (a: Self, b: Self) -> Bool { a.text.utf8.elementsEqual(b.text.utf8) }

  public func hash(into hasher: inout Hasher) {
    for byte in text.utf8 { hasher.combine(byte) }
  }
}
