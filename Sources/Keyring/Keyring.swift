// The kernel's keyrings as this program uses them: keys of type `user`, called `vnvram:<name>`. One thin function per
// system call; finding and listing are in files of their own.
//
// Rights and keyrings are the calling thread's own: the thread, process and session keyrings hang on a thread's
// credentials, and one that a thread comes to later is not its siblings'.
import CLibkeyutils
import Glibc
import Primitives

/// Finds, reads, adds and changes keys.
public enum Keyring {
  /// Reads all of a key straight into locked memory. `expecting` is its size in bytes; the kernel copies nothing else
  /// for another size than `.wrongSize` needs, and that is wiped.
  ///
  /// Throws `.missing`, `.expired`, `.revoked`, `.denied`, `.wrongSize`, or `.wrongType` where the number is that of a
  /// key of another type: reading a keyring would give numbers for a key.
  public static func read(_ serial: KeySerial, expecting: Int) throws(KeyringError) -> SecretBytes {
    precondition(expecting > 0 && expecting <= 32767)
    let description = try describe(serial)
    let label = description.name?.text ?? serial.description
    guard description.type == "user" else {
      throw KeyringError(.wrongType, key: label, "is of type \(description.type); only keys of type user are used")
    }
    var secret = SecretBytes(count: expecting)
    var bytes = secret.mutableSpan
    let size = try unsafe bytes.withUnsafeMutableBufferPointer { (buffer) throws(KeyringError) in
      let base = unsafe UnsafeMutableRawPointer(buffer.baseAddress)?.assumingMemoryBound(to: CChar.self)
      return try attempt(label, "reading it") { unsafe keyctl_read(serial.value, base, expecting) }
    }
    guard size == expecting else {
      throw KeyringError(
        .wrongSize(actual: size), key: label, "has \(size) bytes and should have \(expecting); it is not the right key")
    }
    return secret
  }

  /// How many bytes a key has. The kernel copies none of them. Throws as `read` does, which it needs the rights of.
  public static func size(of serial: KeySerial) throws(KeyringError) -> Int {
    try attempt(serial.description, "asking for its size") { keyctl_read(serial.value, nil, 0) }
  }

  /// What the kernel says of a key or keyring. Throws `.denied` without the right to view it.
  public static func describe(_ serial: KeySerial) throws(KeyringError) -> KeyDescription {
    let label = serial.description
    // A type's name has at most 31 bytes, a description 4095.
    let line = try unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: 4400) {
      (buffer) throws(KeyringError) -> String in
      let base = buffer.baseAddress
      let count = try attempt(label, "viewing it") { unsafe keyctl_describe(serial.value, base, 4400) }
      guard count > 0, count <= 4400 else { throw KeyringError(errno: EMSGSIZE, key: label, "viewing it") }
      let bytes = unsafe buffer.prefix(count - 1).map { UInt8(bitPattern: $0) }
      return String(decoding: bytes, as: UTF8.self)
    }
    guard let description = KeyDescription(parsing: line) else {
      throw KeyringError(errno: EBADMSG, key: label, "viewing it")
    }
    return description
  }

  /// Sets when a key expires: `seconds` from now; zero for never.
  public static func setTimeout(_ serial: KeySerial, seconds: UInt32) throws(KeyringError) {
    _ = try attempt(serial.description, "setting its timeout") { keyctl_set_timeout(serial.value, seconds) }
  }

  public static func setPermissions(_ serial: KeySerial, _ permissions: KeyPermissions) throws(KeyringError) {
    _ = try attempt(serial.description, "setting its permissions") {
      keyctl_setperm(serial.value, permissions.rawValue)
    }
  }

  /// Makes a key unusable for good, for everyone, whatever keyrings it is in. Its name goes on saying "revoked".
  public static func revoke(_ serial: KeySerial) throws(KeyringError) {
    _ = try attempt(serial.description, "revoking it") { keyctl_revoke(serial.value) }
  }

  /// Takes a key out of all keyrings, as if it had never been there. The kernel sweeps it away a moment later; until
  /// then a search says "revoked".
  public static func invalidate(_ serial: KeySerial) throws(KeyringError) {
    _ = try attempt(serial.description, "invalidating it") { keyctl_invalidate(serial.value) }
  }

  /// Takes a key out of one keyring. It is gone once no keyring has it. Throws `.missing` where that one hasn't.
  public static func unlink(_ serial: KeySerial, from scope: KeyringScope) throws(KeyringError) {
    let label = serial.description
    try withKeyring(scope, create: false) { (keyring) throws(KeyringError) in
      guard let keyring else {
        throw KeyringError(.noSuchKeyring, key: label, "this process has no \(scope) keyring")
      }
      guard keyctl_unlink(serial.value, keyring) == 0 else {
        // ENOENT is what the kernel says of a key that is somewhere else.
        throw KeyringError(errno: errno == ENOENT ? ENOKEY : errno, key: label, "unlinking it")
      }
    }
  }

  /// Why no keyring can be used at all; nil where they can. It stays so: a process is never allowed again what its
  /// filter of system calls forbids.
  static var barrier: KeyringError? {
    // The kernel makes nothing for the question, and has an answer for every process: the number, or that there is
    // none.
    guard keyctl_get_keyring_ID(KEY_SPEC_THREAD_KEYRING, 0) < 0, errno == ENOSYS || errno == EPERM else { return nil }
    return KeyringError(barredBy: errno)
  }

  /// - Throws: `.unavailable` where no key of the kernel's can be used.
  public static func requireAccess() throws(KeyringError) {
    if let barrier { throw barrier }
  }

  /// Runs one call of libkeyutils; where it isn't permitted, once more as possessor of all that is the user's.
  static func attempt(_ key: String, _ operation: String, _ call: () -> Int) throws(KeyringError) -> Int {
    var result = call()
    if result < 0, errno == EACCES { result = Possession.during { _ in call() } }
    guard result >= 0 else { throw KeyringError(errno: errno, key: key, operation) }
    return result
  }

  /// Runs `body` with the number by which the kernel knows a keyring; nil where there is none. With `create`, the
  /// thread, process and persistent keyrings are made where they are wanting.
  ///
  /// The kernel makes the (empty) user and user-session keyrings by itself whenever they are asked for, and makes the
  /// latter the session keyring of a thread that has none.
  static func withKeyring<R: ~Copyable>(
    _ scope: KeyringScope, create: Bool, _ body: (Int32?) throws(KeyringError) -> R
  ) throws(KeyringError) -> R {
    guard let special = scope.special else {
      return try Possession.ofPersistent(create: create, body)
    }
    let mayBeMade = scope == .thread || scope == .process
    guard keyctl_get_keyring_ID(special, create && mayBeMade ? 1 : 0) < 0 else { return try body(special) }
    let code = errno
    guard code == ENOSYS || code == EPERM else { return try body(nil) }
    throw KeyringError(errno: code, key: "\(scope) keyring", "looking for it")
  }

  /// The numbers of what a keyring holds, itself and not deeper; none where it can't be read. At most 16384.
  static func contents(_ keyring: Int32) -> [Int32] {
    unsafe withUnsafeTemporaryAllocation(of: Int32.self, capacity: 16384) { buffer in
      let bytes = unsafe buffer.withMemoryRebound(to: CChar.self) { chars in
        unsafe keyctl_read(keyring, chars.baseAddress, chars.count)
      }
      // For a keyring that is larger than the buffer the kernel says how large and copies nothing.
      guard bytes > 0, bytes <= 4 * 16384 else { return [] }
      return unsafe Array(buffer.prefix(bytes / 4))
    }
  }
}
