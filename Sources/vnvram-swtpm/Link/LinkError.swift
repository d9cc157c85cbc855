import Glibc
import Primitives

/// Monitor and worker don't understand each other, or one of them is gone.
struct LinkError: StatusError {
  let description: String
  var status: Status { .failed }
  /// The other one is gone, or about to be.
  let isHangUp: Bool

  init(_ what: String, isHangUp: Bool = false) {
    description = "between the server's two processes: \(what)"
    self.isHangUp = isHangUp
  }

  static let hangUp = LinkError("the other one has ended", isHangUp: true)

  init(errno code: Int32, _ action: String) {
    self.init(
      unsafe "\(action) failed: \(String(cString: strerror(code)))", isHangUp: code == EPIPE || code == ECONNRESET)
  }
}
