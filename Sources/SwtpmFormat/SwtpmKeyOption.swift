import Primitives

// A key as swtpm's options have it.
extension SwtpmKeySource {
  /// Parses the value of swtpm's `--key` or `--migration-key`: `file=` or `fd=` with `format=hex|binary`, or `pwdfile=`
  /// or `pwdfd=` with `kdf=pbkdf2|sha512`; for all `mode=aes-cbc|aes-128-cbc|aes-256-cbc` and `remove[=true|false]`.
  /// Nothing is read yet.
  ///
  /// - Throws: `.usage`, naming `option`.
  public init(option: String, value text: String) throws(SwtpmKeyError) {
    func usage(_ message: String) -> SwtpmKeyError { SwtpmKeyError(.usage, "\(option): \(message)") }
    var items: [String: String?] = [:]
    guard text.utf8.count <= 4096 else { throw usage("longer than 4096 bytes") }
    for item in text.split(separator: ",", omittingEmptySubsequences: false) {
      let parts = item.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      let key = String(parts[0])
      guard !key.isEmpty else { throw usage("an empty item in \"\(text)\"") }
      guard items[key] == nil else { throw usage("\(key) is given twice") }
      items[key] = .some(parts.count == 2 ? String(parts[1]) : nil)
    }
    func value(_ key: String) throws(SwtpmKeyError) -> String? {
      guard let found = items.removeValue(forKey: key) else { return nil }
      guard let found else { throw usage("\(key) needs a value") }
      return found
    }
    var places: [(place: Place, isPassword: Bool)] = []
    for (key, isPassword) in [("file", false), ("pwdfile", true)] {
      guard let path = try value(key) else { continue }
      guard !path.isEmpty, !path.utf8.contains(0) else { throw usage("the file's path is empty") }
      places.append((.file(path), isPassword))
    }
    for (key, isPassword) in [("fd", false), ("pwdfd", true)] {
      guard let number = try value(key) else { continue }
      guard let descriptor = Int32(number), descriptor >= 0 else {
        throw usage("\(key) is a number from 0 to \(Int32.max)")
      }
      places.append((.descriptor(descriptor), isPassword))
    }
    guard let (place, isPassword) = places.first, places.count == 1 else {
      throw usage("say one of file=, fd=, pwdfile= and pwdfd=")
    }
    let kind: Kind
    if isPassword {
      guard let derivation = SwtpmKey.Derivation(rawValue: try value("kdf") ?? "pbkdf2") else {
        throw usage("kdf is pbkdf2 or sha512")
      }
      kind = .password(derivation)
    } else {
      switch try value("format") ?? "hex" {
      case "hex": kind = .hexadecimal
      case "binary": kind = .binary
      default: throw usage("format is hex or binary")
      }
    }
    let count: Int
    switch try value("mode") ?? "aes-128-cbc" {
    case "aes-cbc", "aes-128-cbc": count = 16
    case "aes-256-cbc": count = 32
    default: throw usage("mode is aes-cbc, aes-128-cbc or aes-256-cbc")
    }
    var removes = false
    if let choice = items.removeValue(forKey: "remove") {
      switch choice {
      case nil, "true", "1": removes = true
      case "false", "0": removes = false
      default: throw usage("remove is true or false")
      }
    }
    if let unknown = items.keys.sorted().first { throw usage("nothing is known of \"\(unknown)\"") }
    self.init(place, kind, count: count)
    removesFile = removes
  }
}
