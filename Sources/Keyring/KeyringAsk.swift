// Asking for a key that is in no keyring. request_key(2) has the kernel run /sbin/request-key, as root and outside of
// any confinement of the asker's, and that finds in its rules (request-key.conf(5)) a program that knows.
import CLibkeyutils
import Glibc

extension Keyring {
  /// Makes the process keyring, where answers go. A thread shares it with those that it starts afterwards, and with no
  /// other: so this comes before the threads that ask and read.
  public static func prepareToAsk() throws(KeyringError) {
    guard keyctl_get_keyring_ID(KEY_SPEC_PROCESS_KEYRING, 1) < 0 else { return }
    throw KeyringError(errno: errno, key: "process keyring", "making it")
  }

  /// Asks for a key, and links it into the process keyring: it lasts as long as the process, or until its provider's
  /// time limit.
  ///
  /// Only for a thread that was started for this. It gets an empty session keyring, for good: a "no" leaves a negative
  /// key in the asker's session keyring, by default for half a minute, and in one that others use it would hide a key
  /// that is loaded meanwhile, or pass on to it that it ends then.
  ///
  /// It takes as long as whoever answers, and nothing interrupts it: the process can't even be killed before. Rules
  /// should set a limit, as those in `Keys/request-key.d` do.
  ///
  /// Throws `.missing` where nobody has it, `.denied` where it was refused, `.expired`, `.revoked`, `.unavailable`,
  /// `.quota`.
  public static func ask(_ name: KeyName) throws(KeyringError) -> KeySerial {
    guard keyctl_join_session_keyring(nil) > 0 else {
      throw KeyringError(errno: errno, key: name.text, "making a session keyring to ask for it in")
    }
    let answer = unsafe request_key("user", name.keyDescription, "vnvram", KEY_SPEC_SESSION_KEYRING)
    guard let serial = KeySerial(answer) else {
      switch errno {
      case ENOKEY:
        throw KeyringError(
          .missing, key: name.text, "was asked for, and no program that /sbin/request-key knows has it")
      case EKEYREJECTED:
        throw KeyringError(.denied, key: name.text, "was asked for, and refused by who was asked")
      default: throw KeyringError(errno: errno, key: name.text, "asking for it")
      }
    }
    // Before this thread ends, and its session keyring with it.
    guard keyctl_link(serial.value, KEY_SPEC_PROCESS_KEYRING) == 0 else {
      throw KeyringError(errno: errno, key: name.text, "linking it into the process keyring")
    }
    return serial
  }
}
