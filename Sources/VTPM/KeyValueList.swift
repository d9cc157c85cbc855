/// The comma-separated `key=value` and `flag` lists of swtpm's options. What isn't asked for by `finish` is refused, so
/// that a misspelt option isn't silently ignored.
struct KeyValueList {
  let option: String
  private var items: [(key: String, value: String?)] = []

  init(_ text: String, option: String) throws(TPMError) {
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
  mutating func value(_ key: String) throws(TPMError) -> String? {
    let (found, value) = take(key)
    if found && value == nil { throw .usage("\(option): \(key) needs a value") }
    return value
  }

  /// The value of `key` as a decimal number within limits.
  mutating func number<T: FixedWidthInteger>(_ key: String, _ limits: ClosedRange<T>) throws(TPMError) -> T? {
    guard let text = try value(key) else { return nil }
    guard let number = T(text), limits.contains(number) else {
      throw .usage("\(option): \(key) is a number from \(limits.lowerBound) to \(limits.upperBound)")
    }
    return number
  }

  /// Whether `key` is there; it takes no value.
  mutating func flag(_ key: String) throws(TPMError) -> Bool {
    let (found, value) = take(key)
    if value != nil { throw .usage("\(option): \(key) takes no value") }
    return found
  }

  /// What an option that may have a value was given.
  enum OptionalValue: Equatable {
    case absent
    case alone
    case value(String)
  }

  mutating func optionalValue(_ key: String) -> OptionalValue {
    let (found, value) = take(key)
    guard found else { return .absent }
    return value.map { .value($0) } ?? .alone
  }

  func finish() throws(TPMError) {
    if let item = items.first { throw .usage("\(option): nothing is known of \"\(item.key)\"") }
  }
}
