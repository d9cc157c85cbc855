/// What people call a key. In the keyring it is described as `vnvram:<name>`, so that it can't be taken for a key of
/// another program.
///
/// A name is 1 to 120 bytes of UTF-8: letters, marks, numbers, punctuation and symbols. Not allowed are white space,
/// control and formatting characters (a name is printed to terminals and logs), the colon (it ends the description in
/// /proc/keys, and keeps `vnvram:<kind>:<name>` free for later), the slash, and a dot or a hyphen at the start:
/// providers make file names and arguments of names.
public struct KeyName: Hashable, Comparable, Sendable, CustomStringConvertible {
  public static let maximumCount = 120
  public static let prefix = "vnvram:"

  public let text: String

  /// Nil where `text` is not a name.
  public init?(_ text: String) {
    guard (1...Self.maximumCount).contains(text.utf8.count), text.unicodeScalars.allSatisfy(Self.isAllowed) else {
      return nil
    }
    guard let first = text.utf8.first, first != 0x2E, first != 0x2D else { return nil }
    self.text = text
  }

  /// From a key's description in the keyring; nil where it is not one of ours.
  public init?(keyDescription: String) {
    // Bytes, not characters: to Swift a colon and a combining mark behind it are one character, which is no colon.
    guard keyDescription.utf8.starts(with: Self.prefix.utf8) else { return nil }
    self.init(String(Substring(keyDescription.utf8.dropFirst(Self.prefix.utf8.count))))
  }

  /// As the keyring has it.
  public var keyDescription: String { Self.prefix + text }

  public var description: String { text }

  /// Names are bytes to the kernel: two ways of writing the same letter are two names.
  public static func == (a: Self, b: Self) -> Bool { a.text.utf8.elementsEqual(b.text.utf8) }
  public static func < (a: Self, b: Self) -> Bool { a.text.utf8.lexicographicallyPrecedes(b.text.utf8) }
  public func hash(into hasher: inout Hasher) { for byte in text.utf8 { hasher.combine(byte) } }

  private static func isAllowed(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.properties.generalCategory {
    case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator, .paragraphSeparator, .spaceSeparator:
      false
    default: scalar != ":" && scalar != "/"
    }
  }
}
