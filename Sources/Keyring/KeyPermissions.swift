/// What may be done with a key by its possessor, its owner, its group and everyone else (keyrings(7), "Access rights").
///
/// Possession goes by search: a possessor who may search may also read, whatever the right to read says, and one who
/// may not search isn't a possessor.
public struct KeyPermissions: OptionSet, Hashable, Sendable, CustomStringConvertible {
  public let rawValue: UInt32
  public init(rawValue: UInt32) { self.rawValue = rawValue }

  /// The six rights of one party; `possessor`, `user`, `group` and `other` put them in their places.
  public struct Rights: OptionSet, Hashable, Sendable {
    public let rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }
    public static let view = Rights(rawValue: 0x01)
    public static let read = Rights(rawValue: 0x02)
    public static let write = Rights(rawValue: 0x04)
    public static let search = Rights(rawValue: 0x08)
    public static let link = Rights(rawValue: 0x10)
    public static let setAttributes = Rights(rawValue: 0x20)
    public static let all = Rights(rawValue: 0x3F)
  }

  public static func possessor(_ rights: Rights) -> Self { Self(rawValue: UInt32(rights.rawValue) << 24) }
  public static func user(_ rights: Rights) -> Self { Self(rawValue: UInt32(rights.rawValue) << 16) }
  public static func group(_ rights: Rights) -> Self { Self(rawValue: UInt32(rights.rawValue) << 8) }
  public static func other(_ rights: Rights) -> Self { Self(rawValue: UInt32(rights.rawValue)) }

  /// What keys are added with: the possessor everything, the owner view, nobody else anything.
  ///
  /// It is enough for a service of the same user to find and read a key in the user, user-session or persistent
  /// keyring, because the kernel counts the caller as possessor of what a search of these finds, and `Keyring.read`
  /// makes itself the possessor. A right for the owner to read would let every other process of that user read by
  /// number what lies in one login's session keyring.
  public static let standard: Self = [.possessor(.all), .user(.view)]

  /// Whether the group or everyone has a right beyond seeing that the key exists. To link counts, since it leads to
  /// possession; to set attributes counts, since it leads to every other right.
  public var isTooWide: Bool {
    let harmless: Self = [.possessor(.all), .user(.all), .group(.view), .other(.view)]
    return !subtracting(harmless).isEmpty
  }

  /// Whether who possesses a key may read it. One that may not be read though this holds is in a keyring of somebody
  /// else.
  public var letPossessorRead: Bool { !isDisjoint(with: .possessor([.read, .search])) }

  /// As `keyctl describe` prints it: `alswrv-----v------------`, possessor first; a for attributes.
  public var description: String {
    var text = ""
    for shift in [24, 16, 8, 0] as [UInt32] {
      for (bit, letter) in zip([0x20, 0x10, 0x08, 0x04, 0x02, 0x01] as [UInt32], "alswrv") {
        text.append(rawValue >> shift & bit != 0 ? letter : "-")
      }
    }
    return text
  }
}
