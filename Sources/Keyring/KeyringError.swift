import Glibc
import Primitives

/// Why a key can't be had. Equality is on the code; the rest is for people.
public struct KeyringError: StatusError, Equatable {
  public enum Code: Sendable, Equatable {
    /// In none of the keyrings.
    case missing
    /// Its time ran out. The kernel sweeps expired and revoked keys away some minutes later
    /// (/proc/sys/kernel/keys/gc_delay, 300 s); from then on they are missing.
    case expired
    /// Revoked, or just invalidated.
    case revoked
    /// It is there, and its permissions don't let this process search, view, read or change it.
    case denied
    /// It has another number of bytes than the use asks for.
    case wrongSize(actual: Int)
    /// It has other content than when it was used. Nothing in this module says so: it keeps nothing to compare with.
    case changed
    /// A key, but not of type `user`.
    case wrongType
    /// The user's quota of keys is used up (EDQUOT).
    case quota
    /// A key of that name is in that keyring already.
    case exists
    /// The keyring to add to isn't there.
    case noSuchKeyring
    /// The kernel has no keyrings, or they, or one operation, are barred to this process, as container runtimes do.
    case unavailable(errno: Int32)
    case other(errno: Int32)
  }

  public let code: Code
  /// The key by name, else by serial number.
  public let key: String
  /// What failed and the remedy, without the key's name.
  public let detail: String

  public init(_ code: Code, key: String, _ detail: String) {
    self.code = code
    self.key = key
    self.detail = detail
  }

  /// What `errno` means for `key` when `operation` failed.
  init(errno code: Int32, key: String, _ operation: String) {
    switch code {
    case ENOKEY:
      self.init(.missing, key: key, "is in none of the keyrings of this process and its user")
    case EKEYEXPIRED:
      self.init(.expired, key: key, "has expired; add it again")
    case EKEYREVOKED:
      self.init(.revoked, key: key, "was revoked; add it again")
    case EACCES:
      self.init(
        .denied, key: key, "\(operation) is not permitted; see its permissions and owner with `keyctl describe`")
    case EDQUOT:
      self.init(
        .quota, key: key, "\(operation) exceeds the user's key quota; see /proc/key-users and /proc/sys/kernel/keys")
    case ENOSYS, EPERM:
      self =
        Keyring.barrier
        ?? KeyringError(
          .unavailable(errno: code), key: key, "\(operation) is barred to this process (\(Self.words(code)))")
    case EOPNOTSUPP:
      self.init(.wrongType, key: key, "is of a type that can't be read")
    default:
      self.init(.other(errno: code), key: key, "\(operation) failed: \(Self.words(code))")
    }
  }

  static func words(_ code: Int32) -> String {
    guard let text = unsafe strerror(code) else { return "error \(code)" }
    return unsafe String(cString: text)
  }

  public static func == (a: Self, b: Self) -> Bool { a.code == b.code }

  public var status: Status {
    switch code {
    case .missing: .keyMissing
    case .expired, .revoked, .denied, .wrongType, .unavailable: .keyUnusable
    case .wrongSize, .changed: .wrongKey
    case .quota: .noSpace
    case .exists: .refused
    case .noSuchKeyring: .notFound
    case .other: .failed
    }
  }

  /// Of all keyrings, for which there is no key to be named.
  init(barredBy code: Int32) {
    self.init(
      .unavailable(errno: code), key: "",
      "keys of the kernel can't be used here: keyctl(2) is not permitted to this process (\(Self.words(code))), as in many "
        + "containers")
  }

  /// Whether no key of the kernel's can be used at all: what is of no one key.
  public var isOfAllKeys: Bool { key.isEmpty }

  public var description: String { isOfAllKeys ? detail : "key \(key): \(detail)" }

  /// Where several keyrings fail in several ways, the one that says most of the key itself is reported.
  var rank: Int {
    switch code {
    case .revoked: 5
    case .expired: 4
    case .denied: 3
    case .unavailable: 2
    case .missing: 0
    default: 1
    }
  }
}
