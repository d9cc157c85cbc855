// All our keys within reach.
import CLibkeyutils
import Glibc
import Primitives

/// A key as `list` shows it.
public struct ListedKey: Hashable, Sendable {
  public enum State: String, Sendable {
    case usable, expired, revoked
    /// Its permissions don't let this process read it.
    case denied
  }

  public let name: KeyName
  public let serial: KeySerial
  /// The keyring that holds it, or the one through which it was come to.
  public let scope: KeyringScope
  public let state: State
  public let uid: UInt32
  public let gid: UInt32
  public let permissions: KeyPermissions
  /// In bytes; nil unless usable.
  public let size: Int?
  /// Until it expires, in the kernel's words (`59s`, `3m`, `2h`, `4d`, `1w`); nil where it never does, or isn't usable.
  public let timeLeft: String?

  public var isTooWide: Bool { permissions.isTooWide }
}

extension Keyring {
  /// How many keys and keyrings are looked at, and how deep keyrings within keyrings are (the kernel searches to 6).
  static let listLimit = 65536
  static let depthLimit = 6

  /// Every key of ours in the keyrings that `find` searches, each once, by name and then serial. Expired and revoked
  /// keys show where /proc/keys can be read; a key that may not be viewed doesn't, since nobody tells its name. The
  /// session keyring of a process in no session counts as the user-session one.
  public static func list() -> [ListedKey] {
    Possession.during { persistent in
      var holders: [(serial: Int32, scope: KeyringScope)] = []
      for scope in KeyringScope.allCases where scope != .session || hasSession {
        guard let special = scope.special else { continue }
        // The thread keyring holds the links that make this thread the possessor, which are no keys of it.
        let serial = keyctl_get_keyring_ID(special, 0)
        if serial > 0 { holders.append((serial, scope)) }
      }
      if let persistent { holders.append((persistent, .persistent)) }
      let places = walk(holders)
      let proc = Dictionary(ProcKeys.read().map { ($0.serial, $0) }, uniquingKeysWith: { first, _ in first })
      return places.compactMap { listed($0.serial, $0.scope, proc[$0.serial]) }
        .sorted { ($0.name, $0.serial.value) < ($1.name, $1.serial.value) }
    }
  }

  /// All keys in these keyrings and the keyrings within, each once. A key that one of `holders` has itself counts as
  /// its, one further down as that of the first holder that leads to it.
  private static func walk(
    _ holders: [(serial: Int32, scope: KeyringScope)]
  ) -> [(serial: Int32, scope: KeyringScope)] {
    var seen = Set(holders.map(\.serial))
    var places: [(serial: Int32, scope: KeyringScope)] = []
    var level = holders
    for _ in 0..<depthLimit {
      var next: [(serial: Int32, scope: KeyringScope)] = []
      for holder in level {
        for serial in contents(holder.serial) where places.count < listLimit && seen.insert(serial).inserted {
          places.append((serial, holder.scope))
          next.append((serial, holder.scope))
        }
      }
      level = next.filter { isKeyring($0.serial) }
      if level.isEmpty { break }
    }
    return places
  }

  private static func isKeyring(_ serial: Int32) -> Bool {
    guard let serial = KeySerial(serial), let description = try? describe(serial) else { return false }
    return description.type == "keyring"
  }

  /// Nil for what is no key of ours.
  private static func listed(_ number: Int32, _ scope: KeyringScope, _ proc: ProcKeys?) -> ListedKey? {
    guard let serial = KeySerial(number) else { return nil }
    var state = ListedKey.State.usable
    var description = proc?.description
    var size: Int?
    do {
      description = try describe(serial)
      // Without a buffer the kernel says how long the key is and copies nothing.
      if description?.name != nil { size = try attempt("", "") { keyctl_read(number, nil, 0) } }
    } catch {
      switch error.code {
      case .expired: state = .expired
      case .revoked: state = .revoked
      case .denied: state = .denied
      default: return nil
      }
    }
    guard let description, let name = description.name else { return nil }
    return ListedKey(
      name: name, serial: serial, scope: scope, state: state, uid: description.uid, gid: description.gid,
      permissions: description.permissions, size: size, timeLeft: state == .usable ? proc?.timeout : nil)
  }
}
