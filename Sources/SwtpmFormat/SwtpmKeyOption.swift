// A key as swtpm's options have it.
extension SwtpmKeySource {
  /// Parses the value of swtpm's `--key` or `--migration-key`: `file=` or `fd=` with `format=hex|binary`, or `pwdfile=`
  /// or `pwdfd=` with `kdf=pbkdf2|sha512`; for all `mode=aes-cbc|aes-128-cbc|aes-256-cbc` and `remove[=true|false]`.
  /// Nothing is read yet.
  ///
  /// - Throws: `.usage`, naming `option`.
  public init(option: String, value text: String) throws(SwtpmKeyError) {
    var list = try KeyValueList<SwtpmKeyError>(text, option: option)
    let descriptors = UInt32(0)...UInt32(Int32.max)
    var places: [(place: Place, isPassword: Bool)] = []
    if let path = try list.value("file") { places.append((.file(path), false)) }
    if let number = try list.number("fd", descriptors) { places.append((.descriptor(Int32(number)), false)) }
    if let path = try list.value("pwdfile") { places.append((.file(path), true)) }
    if let number = try list.number("pwdfd", descriptors) { places.append((.descriptor(Int32(number)), true)) }
    guard let (place, isPassword) = places.first, places.count == 1 else {
      throw .usage("\(option): say one of file=, fd=, pwdfile= and pwdfd=")
    }
    if case .descriptor(1...2) = place {
      throw .usage("\(option): descriptors 1 and 2 are for messages; a key comes by another")
    }
    if case .file(let path) = place, path.isEmpty || path.utf8.contains(0) {
      throw .usage("\(option): the file's path is empty")
    }
    let kind: Kind
    if isPassword {
      guard let derivation = SwtpmKey.Derivation(rawValue: try list.value("kdf") ?? "pbkdf2") else {
        throw .usage("\(option): kdf is pbkdf2 or sha512")
      }
      kind = .password(derivation)
    } else {
      switch try list.value("format") ?? "hex" {
      case "hex": kind = .hexadecimal
      case "binary": kind = .binary
      default: throw .usage("\(option): format is hex or binary")
      }
    }
    let count: Int
    switch try list.value("mode") ?? "aes-128-cbc" {
    case "aes-cbc", "aes-128-cbc": count = 16
    case "aes-256-cbc": count = 32
    default: throw .usage("\(option): mode is aes-cbc, aes-128-cbc or aes-256-cbc")
    }
    self.init(place, kind, count: count)
    removesFile = try list.flag("remove")
    try list.finish()
  }
}
