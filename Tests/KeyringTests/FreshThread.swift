import CLibkeyutils
import Foundation
import Keyring
import Primitives
import Synchronization

/// Runs `body` on a thread of its own: keyrings hang on threads, and the keys in this one's thread, process and session
/// keyrings end with it. With `session` it begins in a new session that leads to no other keyring, as a service does;
/// without, in whatever the tests were started in.
func onFreshThread<T: Sendable>(session: Bool = true, _ body: @escaping @Sendable () throws -> T) throws -> T {
  let box = Box<T>()
  let done = DispatchSemaphore(value: 0)
  Thread {
    if session, keyctl_join_session_keyring(nil) < 0 { fatalError("no session keyring: \(errno)") }
    let result = Result { try body() }
    box.result.withLock { $0 = result }
    done.signal()
  }.start()
  done.wait()
  guard let result = box.result.withLock({ $0 }) else { fatalError("the thread ended without a result") }
  return try result.get()
}

private final class Box<T: Sendable>: Sendable {
  let result = Mutex<Result<T, any Error>?>(nil)
}

/// False where the kernel has no keyrings or a container bars them.
let keyringsAreAvailable = keyctl_get_keyring_ID(KEY_SPEC_USER_KEYRING, 0) > 0

/// A name that no other test and no other run has.
func freshName() throws -> KeyName {
  guard let name = KeyName("test-\(UInt64.random(in: .min ... .max))") else { fatalError("not a name") }
  return name
}

func secret(_ count: Int = 32, _ byte: UInt8 = 7) -> SecretBytes {
  var secret = SecretBytes(count: count)
  var bytes = secret.mutableSpan
  bytes.fill(byte)
  return secret
}

/// The error that `body` throws.
func failure<R: ~Copyable>(_ body: () throws(KeyringError) -> R) -> KeyringError.Code? {
  do {
    _ = try body()
    return nil
  } catch {
    return error.code
  }
}

/// Reads into an array, for comparing.
func content(_ serial: KeySerial) throws(KeyringError) -> [UInt8] {
  let secret = try Keyring.read(serial, expecting: 32)
  return secret.span.array
}
