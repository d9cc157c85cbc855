/// An error that tells of a mistake in how a program is called.
package protocol UsageError: Error {
  static func usage(_ message: String) -> Self
}

/// The comma-separated `key=value` and `flag` lists of swtpm's options. What isn't asked for by `finish` is refused, so
/// that a misspelt option isn't silently ignored.
package struct KeyValueList<Failure: UsageError> {
  package let option: String
  private var items: [(key: String, value: String?)] = []

  package init(_ text: String, option: String) throws(Failure) {
    self.option = option
    guard text.utf8.count <= 4096 else { throw .usage("\(option): longer than 4096 bytes") }
    for item in text.split(separator: ",", omittingEmptySubsequences: false) {
      let parts = item.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      let key = String(parts[0])
      guard !key.isEmpty else { throw .usage("\(option): an empty item in \"\(text)\"") }
      guard !items.contains(where: { $0.key == key }) else { throw .usage("\(option): \(key) is given twice") }
      items.append((key, parts.count == 2 ? String(parts[1]) : nil))
    }
  }

  private mutating func take(_ key: String) -> (found: Bool, value: String?) {
    guard let index = items.firstIndex(where: { $0.key == key }) else { return (false, nil) }
    return (true, items.remove(at: index).value)
  }

  /// The value of `key`, nil where it isn't given.
  package mutating func value(_ key: String) throws(Failure) -> String? {
    let (found, value) = take(key)
    if found && value == nil { throw .usage("\(option): \(key) needs a value") }
    return value
  }

  /// The value of `key` as a decimal number within limits.
  package mutating func number<T: FixedWidthInteger>(_ key: String, _ limits: ClosedRange<T>) throws(Failure) -> T? {
    guard let text = try value(key) else { return nil }
    guard let number = T(text), limits.contains(number) else {
      throw .usage("\(option): \(key) is a number from \(limits.lowerBound) to \(limits.upperBound)")
    }
    return number
  }

  /// Whether `key` is there, alone or as true. (swtpm takes every value but true and 1 for false; a misspelt one is
  /// refused here.)
  package mutating func flag(_ key: String) throws(Failure) -> Bool { try choice(key) ?? false }

  /// As `flag`; nil where `key` isn't given.
  package mutating func choice(_ key: String) throws(Failure) -> Bool? {
    let (found, value) = take(key)
    switch value {
    case nil: return found ? true : nil
    case "true", "1": return true
    case "false", "0": return false
    default: throw .usage("\(option): \(key) is true or false")
    }
  }

  package func finish() throws(Failure) {
    if let item = items.first { throw .usage("\(option): nothing is known of \"\(item.key)\"") }
  }
}
