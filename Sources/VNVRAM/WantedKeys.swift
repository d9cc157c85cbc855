/// The kernel keys that would open a store and don't, each under why not. Any one of them suffices.
///
/// The names come from a header that is not authenticated yet.
public struct WantedKeys: Equatable, Sendable {
  /// In none of the keyrings.
  public var missing: [String] = []
  /// There, and expired, revoked or not permitted.
  public var unusable: [UnusableKey] = []
  /// There, and opening nothing in this store.
  public var wrong: [String] = []
  /// Those that are being asked for (`NVRAMConfiguration.asksForKeys`), each of which is in another list, too.
  public var asking: [String] = []

  /// A key that is there and can't be used.
  public struct UnusableKey: Equatable, Sendable {
    public let name: String
    /// In the keyring's words.
    public let reason: String
    /// Whether that is so for every key of the kernel's.
    public let isOfAllKeys: Bool

    public init(name: String, reason: String, isOfAllKeys: Bool = false) {
      self.name = name
      self.reason = reason
      self.isOfAllKeys = isOfAllKeys
    }
  }

  public init(missing: [String] = [], unusable: [UnusableKey] = [], wrong: [String] = []) {
    self.missing = missing
    self.unusable = unusable
    self.wrong = wrong
    asking = []
  }

  public var isEmpty: Bool { missing.isEmpty && unusable.isEmpty && wrong.isEmpty }
  /// Every name: those missing first, then the unusable, then the wrong ones.
  public var names: [String] { missing + unusable.map(\.name) + wrong }

  /// What is wanting and what to do, for people.
  var sentence: String {
    guard !isEmpty else { return "opens with no kernel key; give its recovery key or passphrase" }
    // Who can use no key can't load one either.
    if let all = unusable.first(where: \.isOfAllKeys) { return "\(all.reason); give its recovery key or passphrase" }
    var parts: [String] = []
    if !missing.isEmpty { parts.append(Self.list(missing) + (missing.count == 1 ? " is missing" : " are missing")) }
    parts += unusable.map { "key \"\($0.name)\" \($0.reason)" }
    if !wrong.isEmpty { parts.append(Self.list(wrong) + (wrong.count == 1 ? " is" : " are") + " wrong for this store") }
    let any = names.count > 1 ? "; any one of them opens it" : ""
    return parts.joined(separator: ", ") + any + "; load the right key with `vnvram key load NAME --file FILE`"
  }

  private static func list(_ names: [String]) -> String {
    (names.count == 1 ? "key " : "keys ") + names.map { "\"\($0)\"" }.joined(separator: ", ")
  }
}
