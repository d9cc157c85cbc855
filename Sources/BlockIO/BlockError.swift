import Glibc
import Primitives

/// What a block device can answer. Equality is on the code; `detail` says what failed, with errno in words.
public struct BlockError: StatusError, Equatable {
  public enum Code: Sendable, Equatable {
    case notFound
    /// Not a regular file or a block device.
    case wrongKind
    /// Another process holds it.
    case inUse
    case permissionDenied
    /// Reading past the end.
    case truncated
    /// ENOSPC, EDQUOT, EFBIG, or writing past the end of a device.
    case noSpace
    case readOnly
    case exists
    case inputOutput(errno: Int32)
  }

  public let code: Code
  /// The path.
  public let device: String
  /// One sentence without the path: what failed, why, and the remedy.
  public let detail: String

  public init(_ code: Code, device: String, _ detail: String) {
    self.code = code
    self.device = device
    self.detail = detail
  }

  /// What `errno` said about `action` ("reading 4096 bytes at byte 0"), and the remedy where there is one.
  public init(errno: Int32, device: String, _ action: String) {
    let code = Code(errno: errno)
    let reason = unsafe String(cString: strerror(errno))
    self.init(code, device: device, "\(action) failed: \(reason)\(code.remedy)")
  }

  public static func == (a: Self, b: Self) -> Bool { a.code == b.code }

  public var status: Status {
    switch code {
    case .notFound: .inputOutput
    case .wrongKind: .notAnImage
    case .inUse: .inUse
    case .permissionDenied, .readOnly, .inputOutput: .inputOutput
    case .truncated: .notAuthentic
    case .noSpace: .noSpace
    case .exists: .refused
    }
  }

  public var description: String { "\(device): \(detail)" }
}

extension BlockError.Code {
  public init(errno: Int32) {
    switch errno {
    case ENOENT, ENOTDIR: self = .notFound
    case EISDIR: self = .wrongKind
    case EACCES, EPERM: self = .permissionDenied
    case EROFS: self = .readOnly
    case EEXIST: self = .exists
    case EAGAIN, EBUSY, ETXTBSY: self = .inUse
    case ENOSPC, EDQUOT, EFBIG: self = .noSpace
    default: self = .inputOutput(errno: errno)
    }
  }

  /// What one can do about it, to follow a reason.
  fileprivate var remedy: String {
    switch self {
    case .permissionDenied: "; check the owner and mode of the file and of the directories above it"
    case .inUse: "; another process has it open: stop that one first (`fuser` shows which it is)"
    case .noSpace: "; free some space, or raise the quota or the limit on file sizes"
    case .inputOutput: "; the kernel's log may say more"
    case .notFound, .wrongKind, .truncated, .readOnly, .exists: ""
    }
  }
}
