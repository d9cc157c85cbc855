import CLibkeyutils

/// The keyrings in which keys are looked for, in that order (keyrings(7)). Raw values are for the command line.
public enum KeyringScope: String, CaseIterable, Sendable, CustomStringConvertible {
  /// Of one thread; gone with it.
  case thread
  /// Of one process; gone with it.
  case process
  /// Of a login and all it starts. A process outside of any has none; the kernel then stands the user-session keyring
  /// in for it.
  case session
  /// Of a user, while the user has processes.
  case user
  /// Of a user too; links to the user keyring.
  case userSession = "user-session"
  /// Of a user, until three days (/proc/sys/kernel/keys/persistent_keyring_expiry) after it was last asked for. It
  /// outlasts all processes of the user: for what cron and the like start.
  case persistent

  public var description: String { rawValue }

  /// By which the kernel knows it, without a serial number. The persistent keyring has no such number.
  var special: Int32? {
    switch self {
    case .thread: KEY_SPEC_THREAD_KEYRING
    case .process: KEY_SPEC_PROCESS_KEYRING
    case .session: KEY_SPEC_SESSION_KEYRING
    case .user: KEY_SPEC_USER_KEYRING
    case .userSession: KEY_SPEC_USER_SESSION_KEYRING
    case .persistent: nil
    }
  }
}
