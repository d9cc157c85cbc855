import Glibc
import Primitives

/// A process that can't be confined as it was asked to be.
public struct ConfinementError: StatusError, Equatable {
  public let status: Status
  public let description: String

  init(_ status: Status = .failed, _ description: String) {
    self.status = status
    self.description = description
  }

  /// A call that failed, with the reason.
  init(errno: Int32, _ action: String) {
    self.init(.failed, unsafe "\(action) failed: \(String(cString: strerror(errno)))")
  }
}
