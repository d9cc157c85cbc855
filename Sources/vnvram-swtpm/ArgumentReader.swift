import VTPM

/// The words of a command line as options with their values, in order: `--option value`, `--option=value`, `-o value`,
/// `-ovalue`, and letters without values together (`-dt`).
struct ArgumentReader {
  typealias Given = (name: OptionName, value: String?)

  static func read(_ arguments: ArraySlice<String>) throws(TPMError) -> [Given] {
    var (given, rest) = ([Given](), arguments)
    while let word = rest.popFirst() {
      if word.hasPrefix("--"), word.utf8.count > 2 {
        given.append(try long(word, &rest))
      } else if word.hasPrefix("-"), word.utf8.count > 1 {
        given += try short(word, &rest)
      } else {
        throw .usage("\"\(word)\" is no option; see vnvram-swtpm --help")
      }
    }
    return given
  }

  private static func long(_ word: String, _ rest: inout ArraySlice<String>) throws(TPMError) -> Given {
    let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
    let attached = parts.count == 2 ? String(parts[1]) : nil
    let name = try known(String(parts[0]))
    switch name.argument {
    case .attached: return (name, attached)
    case .none:
      guard attached == nil else { throw .usage("\(name.rawValue) takes no value") }
      return (name, nil)
    case .required:
      guard let value = attached ?? rest.popFirst() else { throw .usage("\(name.rawValue) needs a value") }
      return (name, value)
    }
  }

  private static func short(_ word: String, _ rest: inout ArraySlice<String>) throws(TPMError) -> [Given] {
    var (given, letters) = ([Given](), word.dropFirst())
    while let letter = letters.popFirst() {
      guard let name = OptionName(letter: letter) else {
        throw .usage("unknown option -\(letter); see vnvram-swtpm --help")
      }
      try check(name)
      guard name.argument == .required else {
        given.append((name, nil))
        continue
      }
      guard let value = letters.isEmpty ? rest.popFirst() : String(letters) else {
        throw .usage("-\(letter) needs a value")
      }
      given.append((name, value))
      break
    }
    return given
  }

  /// The option of that name. Throws for one that isn't known, and with the reason for one that is refused.
  static func known(_ text: String) throws(TPMError) -> OptionName {
    guard let name = OptionName(rawValue: text) else {
      throw .usage("unknown option \(text); see vnvram-swtpm --help")
    }
    try check(name)
    return name
  }

  private static func check(_ name: OptionName) throws(TPMError) {
    if let refusal = name.refusal { throw .usage("\(name.rawValue) is not for vnvram-swtpm: \(refusal)") }
  }
}
