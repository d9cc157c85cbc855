import Crypto
import Primitives

/// Why a blob of swtpm's format couldn't be opened or made.
public enum SwtpmFormatError: StatusError, Equatable {
  /// The header or a field is not as the format has it.
  case malformed(String)
  /// Made by a later version.
  case unknownVersion(UInt8)
  /// The header's size isn't the one that its version has.
  case headerSize(Int)
  /// What is looked for isn't in it.
  case missing(String)
  /// It is encrypted under a key that wasn't given.
  case keyMissing(KeyUse)
  /// The key has another size than the blob was made with, in bits.
  case keySize(KeyUse, needed: Int)
  /// Made under another key, or changed.
  case wrongKey(KeyUse)
  /// Of version 1 and encrypted.
  case unkeyedHash
  /// The key is in another process, which didn't use it: why.
  case keyUnavailable(String)
  case crypto(CryptoError)

  public enum KeyUse: String, Sendable {
    case state
    case migration
  }

  public var status: Status {
    switch self {
    case .malformed, .headerSize, .missing: .notAuthentic
    case .unknownVersion: .notAnImage
    case .keyMissing: .keyMissing
    case .keySize, .wrongKey: .wrongKey
    case .unkeyedHash: .refused
    case .keyUnavailable, .crypto: .failed
    }
  }

  public var description: String {
    switch self {
    case .malformed(let what): "a blob that swtpm can't have made: \(what)"
    case .unknownVersion(let version): "a blob of version \(version); versions 1 and 2 are known"
    case .headerSize(let size): "a blob whose header has \(size) bytes; 10 are right"
    case .missing(let what): "the blob has no \(what)"
    case .keyMissing(let use): "the blob is encrypted with a \(use.rawValue) key, and none was given"
    case .keySize(let use, let bits): "the blob needs a \(use.rawValue) key of \(bits) bits"
    case .wrongKey(let use): "the blob was made with another \(use.rawValue) key, or it was changed"
    case .unkeyedHash:
      "an encrypted blob of version 1, as swtpm made them before April 2018: whoever can change it can do so unnoticed, and it is "
        + "refused. swtpm reads it, and writes version 2 when it stores the state"
    case .keyUnavailable(let why): why
    case .crypto(let error): "\(error)"
    }
  }
}
