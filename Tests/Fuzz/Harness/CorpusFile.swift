import Primitives

/// A checked-in corpus: a text file with one input a line, `NAME HEXADECIMAL`, so that inputs can be reviewed, found
/// again and added by hand. Lines that begin with `#` are remarks.
public struct CorpusFile {
  public let inputs: [(name: String, bytes: [UInt8])]

  public enum Malformation: Error {
    /// The line, from 1.
    case line(Int)
  }

  public init(parsing text: String) throws(Malformation) {
    var inputs: [(name: String, bytes: [UInt8])] = []
    for (number, line) in text.utf8.split(separator: 0x0A, omittingEmptySubsequences: false).enumerated() {
      guard let first = line.first, first != 0x23 else { continue }
      let parts = line.split(separator: 0x20, omittingEmptySubsequences: false)
      guard parts.count == 2, let bytes = Self.unhex(parts[1]) else { throw .line(number + 1) }
      inputs.append((String(Substring(parts[0])), bytes))
    }
    self.inputs = inputs
  }

  public static func line(_ name: String, _ bytes: [UInt8]) -> String { "\(name) \(bytes.hex)\n" }

  /// `nil` where it isn't an even number of hexadecimal digits.
  static func unhex(_ text: some Collection<UInt8>) -> [UInt8]? {
    guard text.count % 2 == 0 else { return nil }
    var bytes: [UInt8] = []
    var high: UInt8?
    for digit in text {
      guard let value = Character(UnicodeScalar(digit)).hexDigitValue else { return nil }
      if let first = high {
        bytes.append(first << 4 | UInt8(value))
        high = nil
      } else {
        high = UInt8(value)
      }
    }
    return bytes
  }
}
