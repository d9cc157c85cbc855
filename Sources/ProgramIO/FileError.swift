import Glibc
import Primitives

/// What went wrong with a file that is not an image: one that is read or written beside it.
public struct FileError: StatusError, Equatable {
  public let errno: Int32
  /// The path, or what the stream is called.
  public let file: String
  /// What failed and why, without the path.
  public let detail: String

  public init(errno: Int32, file: String, _ action: String) {
    self.errno = errno
    self.file = file
    detail = unsafe "\(action) failed: \(String(cString: strerror(errno)))"
  }

  /// For what is wrong without a system call having failed.
  public init(_ errno: Int32, file: String, detail: String) {
    self.errno = errno
    self.file = file
    self.detail = detail
  }

  public var status: Status {
    switch errno {
    case ENOSPC, EDQUOT, EFBIG, E2BIG: .noSpace
    case EEXIST: .refused
    default: .inputOutput
    }
  }

  public var description: String { "\(file): \(detail)" }
}
