import Glibc
import Primitives

/// libcrypto refused or failed. Programmer errors (a key of the wrong length) trap instead.
public enum CryptoError: StatusError, Equatable {
  /// The algorithm is not there: an old libcrypto, or a provider without it.
  case unavailable(String)
  /// The operation failed.
  case failed(String)
  /// getrandom(2) failed, with this errno.
  case noRandomBytes(Int32)
  /// The protected memory for keys has no more room: too many stores are open at once.
  case outOfKeyMemory
  /// The two halves of an XTS key are equal (SP 800-38E, FIPS 140 IG A.9).
  case equalKeyHalves
  /// A passphrase cost beyond the limits, or more memory than there is.
  case costOutOfRange(String)

  public var status: Status { self == .outOfKeyMemory ? .noSpace : .failed }

  public var description: String {
    switch self {
    case .unavailable(let name): "libcrypto has no \(name)"
    case .failed(let operation): "libcrypto failed: \(operation)"
    case .noRandomBytes(let code): "the kernel gives no random bytes: \(unsafe String(cString: strerror(code)))"
    case .outOfKeyMemory: "the protected memory for keys is full; close stores that aren't in use"
    case .equalKeyHalves: "the two halves of an XTS key are equal"
    case .costOutOfRange(let what): "scrypt: \(what)"
    }
  }
}
