/// What KEYCTL_DESCRIBE says of a key: `type;uid;gid;permissions;description`.
public struct KeyDescription: Hashable, Sendable {
  public let type: String
  public let uid: UInt32
  public let gid: UInt32
  public let permissions: KeyPermissions
  /// What the key is called in the keyring; ours begin with `vnvram:`.
  public let text: String

  public init(type: String, uid: UInt32, gid: UInt32, permissions: KeyPermissions, text: String) {
    self.type = type
    self.uid = uid
    self.gid = gid
    self.permissions = permissions
    self.text = text
  }

  /// The name, where it is a key of ours.
  public var name: KeyName? { type == "user" ? KeyName(keyDescription: text) : nil }

  /// From the kernel's line. The description comes last and may hold semicolons.
  init?(parsing line: String) {
    // Bytes, not characters: a semicolon with a combining mark behind it is another character to Swift.
    let fields = line.utf8.split(separator: 0x3B, maxSplits: 4, omittingEmptySubsequences: false).map(Substring.init)
    guard fields.count == 5, let uid = Int64(fields[1]), let gid = Int64(fields[2]),
      let permissions = UInt32(fields[3], radix: 16)
    else { return nil }
    // The kernel prints them signed: -1 is nobody that this user namespace knows.
    guard let uid = UInt32(wrapping: uid), let gid = UInt32(wrapping: gid) else { return nil }
    self.init(
      type: String(fields[0]), uid: uid, gid: gid, permissions: KeyPermissions(rawValue: permissions),
      text: String(fields[4]))
  }
}

extension UInt32 {
  fileprivate init?(wrapping value: Int64) {
    guard value >= -1, value <= Int64(UInt32.max) else { return nil }
    self = UInt32(truncatingIfNeeded: value)
  }
}
