// Adding a key.
import CLibkeyutils
import Glibc
import Primitives

extension Keyring {
  /// Adds a key of type `user`. With a `timeout` it expires that many seconds from now; 0 is never.
  ///
  /// Throws `.exists` where that keyring has a usable key of that name: what it holds may be the only copy. With
  /// `replacing` the key keeps its number and gets the new content. An expired key is brought back to life with the new
  /// content, a revoked one replaced by a new key.
  /// Throws `.noSuchKeyring` for the session keyring of a process outside of any session: the kernel would make one
  /// that ends with the process, and the key with it. On any error nothing was added.
  @discardableResult
  public static func add(
    _ name: KeyName, payload: borrowing SecretBytes, to scope: KeyringScope, timeout: UInt32 = 0,
    permissions: KeyPermissions = .standard, replacing: Bool = false
  ) throws(KeyringError) -> KeySerial {
    // The kernel's limit for keys of type user.
    precondition(payload.count > 0 && payload.count <= 32767)
    if scope == .session, !hasSession {
      throw KeyringError(
        .noSuchKeyring, key: name.text,
        "this process is in no session, so a session keyring would end with it; add it to the user keyring")
    }
    let content = payload.span
    return try withKeyring(scope, create: true) { (keyring) throws(KeyringError) in
      guard let keyring else {
        throw KeyringError(.noSuchKeyring, key: name.text, "there is no \(scope) keyring to add it to")
      }
      if !replacing { try refuseIfThere(name, keyring, scope) }
      let serial = unsafe content.withUnsafeBufferPointer { bytes in
        unsafe add_key("user", name.keyDescription, bytes.baseAddress, bytes.count, keyring)
      }
      guard serial > 0, let added = KeySerial(serial) else {
        throw KeyringError(errno: errno, key: name.text, "adding it to the \(scope) keyring")
      }
      do throws(KeyringError) {
        // An updated key keeps its old timeout otherwise. The permissions last: they may take the right to set it away.
        try setTimeout(added, seconds: timeout)
        try setPermissions(added, permissions)
      } catch {
        _ = keyctl_unlink(serial, keyring)
        throw KeyringError(error.code, key: name.text, error.detail)
      }
      return added
    }
  }

  /// A thread outside of any session has the user-session keyring for one.
  static var hasSession: Bool {
    let session = keyctl_get_keyring_ID(KEY_SPEC_SESSION_KEYRING, 0)
    return session > 0 && session != keyctl_get_keyring_ID(KEY_SPEC_USER_SESSION_KEYRING, 0)
  }

  private static func refuseIfThere(
    _ name: KeyName, _ keyring: Int32, _ scope: KeyringScope
  ) throws(KeyringError) {
    // A search goes into the keyrings within; a key of the same name there is only hidden by the new one.
    let serial = unsafe keyctl_search(keyring, "user", name.keyDescription, 0)
    guard serial > 0, contents(keyring).contains(Int32(serial)) else { return }
    throw KeyringError(.exists, key: name.text, "is in the \(scope) keyring already; say that it is to be replaced")
  }
}
