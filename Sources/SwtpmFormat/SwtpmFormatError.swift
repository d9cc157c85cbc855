import Crypto
import Primitives

/// Why a blob of swtpm's format couldn't be opened or made.
public enum SwtpmFormatError: StatusError, Equatable {
  /// The header or a field is not as the format has it.
  case malformed(String)
  /// Made by a later version, or by one before 0.1, whose blobs had no structure.
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
    case .crypto: .failed
    }
  }

  public var description: String {
    switch self {
    case .malformed(let what): "a blob that swtpm can't have made: \(what)"
    case .unknownVersion(let version): "a blob of version \(version); version 2 is known"
    case .headerSize(let size): "a blob whose header has \(size) bytes; 10 are right"
    case .missing(let what): "the blob has no \(what)"
    case .keyMissing(let use): "the blob is encrypted with a \(use.rawValue) key, and none was given"
    case .keySize(let use, let bits): "the blob needs a \(use.rawValue) key of \(bits) bits"
    case .wrongKey(let use): "the blob was made with another \(use.rawValue) key, or it was changed"
    case .crypto(let error): "\(error)"
    }
  }
}
