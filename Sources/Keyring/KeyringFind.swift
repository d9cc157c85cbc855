// Finding a key by name.
import CLibkeyutils
import Glibc
import Primitives

/// A key that a search found.
public struct FoundKey: Hashable, Sendable {
  public let serial: KeySerial
  /// The keyring that holds it, or, where another keyring is between, the one that leads to it.
  public let scope: KeyringScope
  /// Nil without the right to view it; such a key can't be read.
  public let description: KeyDescription?
  /// To be reported: see `KeyPermissions.isTooWide`.
  public var isTooWide: Bool { description?.permissions.isTooWide ?? false }
}

extension Keyring {
  /// Looks for a usable key in the thread, process, session, user, user-session and persistent keyrings, and the
  /// keyrings within these; the first one wins.
  ///
  /// Where there is none, throws what is known of an unusable one of that name (`.revoked`, `.expired`, `.denied`, in
  /// that order), else `.missing`. No keyring is made, but see `withKeyring`; finding the persistent keyring puts off
  /// its end. Nobody is asked for the key: that is `ask`.
  public static func find(_ name: KeyName) throws(KeyringError) -> FoundKey {
    var worst = KeyringError(
      .missing, key: name.text,
      "is in none of the keyrings of this process and its user; load it with `vnvram key load \(name.text) --file FILE`, or "
        + "make a new one with `vnvram key generate \(name.text)`")
    for scope in KeyringScope.allCases {
      do throws(KeyringError) {
        if let found = try search(name, in: scope) { return found }
      } catch {
        if error.rank > worst.rank { worst = error }
      }
    }
    throw worst
  }

  /// Nil where the keyring doesn't exist, can't be searched itself (a session keyring revoked at logout), or hasn't it.
  private static func search(_ name: KeyName, in scope: KeyringScope) throws(KeyringError) -> FoundKey? {
    try withKeyring(scope, create: false) { (keyring) throws(KeyringError) -> FoundKey? in
      guard let keyring else { return nil }
      let found = Int32(unsafe keyctl_search(keyring, "user", name.keyDescription, 0))
      guard let serial = KeySerial(found) else {
        if errno == ENOKEY { return nil }
        throw KeyringError(errno: errno, key: name.text, "finding it in the \(scope) keyring")
      }
      return FoundKey(serial: serial, scope: holder(of: found, default: scope), description: try? describe(serial))
    }
  }

  /// A session keyring often leads to the user keyring; people want to know where the key itself is.
  private static func holder(of serial: Int32, default scope: KeyringScope) -> KeyringScope {
    for candidate in KeyringScope.allCases {
      guard let special = candidate.special, keyctl_get_keyring_ID(special, 0) > 0 else { continue }
      if candidate == .session, !hasSession { continue }
      if contents(special).contains(serial) { return candidate }
    }
    return scope
  }
}
