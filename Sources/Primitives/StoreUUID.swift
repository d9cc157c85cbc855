/// A store's identity: RFC 4122 version 4, 16 bytes in the order in which they are printed.
public struct StoreUUID: Hashable, Sendable, CustomStringConvertible {
  public let bytes: InlineBytes16

  public init(_ bytes: InlineBytes16) { self.bytes = bytes }

  /// From 16 random bytes, setting version and variant.
  public init(random: InlineBytes16) {
    var bytes = random
    bytes[6] = bytes[6] & 0x0F | 0x40
    bytes[8] = bytes[8] & 0x3F | 0x80
    self.bytes = bytes
  }

  public var description: String {
    var text = ""
    for i in 0..<16 {
      if [4, 6, 8, 10].contains(i) { text += "-" }
      text += [bytes[i]].hex
    }
    return text
  }
}
