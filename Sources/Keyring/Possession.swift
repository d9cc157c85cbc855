// Becoming the possessor. The kernel gives a possessor's rights over a key to who can find it from the thread, process
// or session keyring. A service has often a session keyring that doesn't lead to its user's keyrings, and nothing leads
// to the persistent one. Linking these into the thread keyring for the length of one operation closes the gap, without
// a trace after it: not the process keyring, which other threads may share, and where a key of the persistent keyring
// would hide one of the session keyring from the next search.
import CLibkeyutils
import Glibc

enum Possession {
  /// Runs `body` as possessor of everything in the user, user-session and persistent keyrings, with the serial number
  /// of the last if there is one. May be nested. Keeps errno.
  static func during<R: ~Copyable, E: Error>(_ body: (_ persistent: Int32?) throws(E) -> R) throws(E) -> R {
    let before = Keyring.contents(KEY_SPEC_THREAD_KEYRING)
    var linked: [Int32] = []
    for scope in [KeyringScope.user, .userSession] {
      guard let special = scope.special else { continue }
      let serial = keyctl_get_keyring_ID(special, 0)
      if serial > 0, keyctl_link(serial, KEY_SPEC_THREAD_KEYRING) == 0 { linked.append(serial) }
    }
    let persistent = linkPersistent(create: false)
    if let persistent { linked.append(persistent) }
    defer { unlink(linked, except: before) }
    return try body(persistent)
  }

  /// Runs `body` with the serial number of the persistent keyring, as its possessor; nil where there is none.
  static func ofPersistent<R: ~Copyable, E: Error>(
    create: Bool, _ body: (Int32?) throws(E) -> R
  ) throws(E) -> R {
    let before = Keyring.contents(KEY_SPEC_THREAD_KEYRING)
    let persistent = linkPersistent(create: create)
    defer { if let persistent { unlink([persistent], except: before) } }
    return try body(persistent)
  }

  /// KEYCTL_GET_PERSISTENT makes the keyring where there is none and puts off its end by its full time; so it is asked
  /// for only where it exists, unless `create`. A search for a key keeps the user's persistent keyring alive.
  private static func linkPersistent(create: Bool) -> Int32? {
    guard create || ProcKeys.persistentKeyringExists else { return nil }
    let serial = keyctl_get_persistent(uid_t.max, KEY_SPEC_THREAD_KEYRING)
    return serial > 0 ? Int32(serial) : nil
  }

  private static func unlink(_ linked: [Int32], except before: [Int32]) {
    let saved = errno
    for serial in linked where !before.contains(serial) { _ = keyctl_unlink(serial, KEY_SPEC_THREAD_KEYRING) }
    errno = saved
  }
}
