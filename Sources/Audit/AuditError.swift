import Glibc
import Primitives

/// Why a record could not be written. The key is not used then. Equality is on the code; the rest is for people.
public struct AuditError: StatusError, Equatable {
  public enum Code: Sendable, Equatable {
    /// Neither an option nor the environment says where the log is.
    case noPlace
    case cannotOpen(errno: Int32)
    /// Others have a say in the file or the folders above it.
    case notTrusted
    case cannotWrite(errno: Int32)
  }

  public let code: Code
  /// The log's path, or "audit log".
  public let log: String
  public let detail: String

  init(_ code: Code, log: String, _ detail: String) {
    self.code = code
    self.log = log
    self.detail = detail
  }

  static func words(_ code: Int32) -> String {
    guard let text = unsafe strerror(code) else { return "error \(code)" }
    return unsafe String(cString: text)
  }

  public static func == (a: Self, b: Self) -> Bool { a.code == b.code }
  public var status: Status { .auditFailed }
  public var description: String { "\(log): \(detail)" }
}
