import Glibc
import Primitives
import SwtpmFormat

/// What the TPM and its server can answer.
public enum TPMError: StatusError {
  /// The state store failed: at what, on which state, and why.
  case state(operation: StateOperation, name: TPMStateName, TPMStateError)
  /// libtpms itself refused, though the store did its part: a state that it doesn't understand, for one.
  case libtpms(operation: String, TPMResult)
  /// An option that makes no sense.
  case usage(String)
  /// A key that an option names can't be had.
  case key(option: String, SwtpmKeyError)
  /// Somebody else listens there.
  case addressInUse(String)
  /// Something that is no socket is where one is to be, and stays: what it is.
  case obstructed(path: String, by: String)
  /// A socket call failed.
  case socket(operation: String, address: String, errno: Int32)

  public enum StateOperation: String, Sendable {
    case load
    case store
    case delete
    case handOut = "hand out"
    case take
  }

  public var status: Status {
    switch self {
    case .state(_, _, let error): error.status
    case .libtpms: .failed
    case .usage: .usage
    case .key(_, let error): error.status
    case .addressInUse: .inUse
    case .obstructed: .refused
    case .socket: .inputOutput
    }
  }

  public var description: String {
    switch self {
    case .state(let operation, let name, let error): "can't \(operation.rawValue) the TPM's \(name.rawValue): \(error)"
    case .libtpms(let operation, let result): "libtpms: \(operation) failed with \(result)"
    case .usage(let message): message
    case .key(let option, let error): "\(option): \(error)"
    case .addressInUse(let address): "\(address) is in use by another process"
    case .obstructed(let path, let what):
      "\(path): is \(what), and a socket is to be there; remove it, or name another path"
    case .socket(let operation, let address, let code):
      "\(address): \(operation) failed: \(unsafe String(cString: strerror(code)))"
    }
  }

  /// Whether the store was opened with a wrong key.
  var isWrongKey: Bool {
    if case .state(_, _, let error) = self { error.status == .wrongKey } else { false }
  }

  /// What INIT answers. 0x800 (TPM_RETRY) is never among them: it would read as "there is no state".
  var result: TPMResult {
    switch self {
    case .libtpms(_, let result): result
    case .state(_, _, let error):
      switch error.status {
      // In QEMU's words: "key could not be found", "decryption error".
      case .keyMissing: .keyNotFound
      case .wrongKey, .keyUnusable: .decryptError
      case .inputOutput: .inputOutput
      case .noSpace: .noSpace
      default: .fail
      }
    default: .fail
    }
  }
}

extension TPMError: UsageError {}
