/// The kernel's number for a key or a keyring: positive, and never the same for two keys at a time.
public struct KeySerial: Hashable, Sendable, CustomStringConvertible {
  public let value: Int32

  /// Nil for what is no serial number: zero, and the negative numbers by which the kernel calls special keyrings.
  public init?(_ value: Int32) {
    guard value > 0 else { return nil }
    self.value = value
  }

  /// From decimal digits, as `keyctl` and this program print it.
  public init?(_ text: String) {
    guard !text.isEmpty, text.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let value = Int32(text) else {
      return nil
    }
    self.init(value)
  }

  public var description: String { String(value) }
}
