/// A number of bytes on the command line: decimal digits, and K, M or G for 1024, 1024² or 1024³ times as many.
enum Size {
  /// Nil where `text` isn't one, or more than 64 bits hold.
  static func parse(_ text: String) -> UInt64? {
    var digits = Substring(text)
    var factor: UInt64 = 1
    switch digits.last {
    case "K": factor = 1 << 10
    case "M": factor = 1 << 20
    case "G": factor = 1 << 30
    default: break
    }
    if factor > 1 { digits.removeLast() }
    guard !digits.isEmpty, digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let number = UInt64(digits) else {
      return nil
    }
    let (bytes, overflow) = number.multipliedReportingOverflow(by: factor)
    return overflow ? nil : bytes
  }
}
