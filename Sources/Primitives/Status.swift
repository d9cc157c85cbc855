/// The list of outcomes, one for Swift, C, the control socket and exit statuses (DESIGN §6). Numbers never change.
public enum Status: Int32, CaseIterable, Sendable, CustomStringConvertible {
  case done = 0
  case failed = 1
  case usage = 2
  case keyMissing = 3
  case wrongKey = 4
  case keyUnusable = 5
  case notAuthentic = 6
  case rolledBack = 7
  case notAnImage = 8
  case inUse = 9
  case noSpace = 10
  case inputOutput = 11
  case auditFailed = 12
  case timedOut = 13
  case notFound = 14
  case refused = 15

  /// The stable name that `--json` gives as `status`.
  public var name: String {
    switch self {
    case .done: "done"
    case .failed: "failed"
    case .usage: "usage"
    case .keyMissing: "key-missing"
    case .wrongKey: "wrong-key"
    case .keyUnusable: "key-unusable"
    case .notAuthentic: "not-authentic"
    case .rolledBack: "rolled-back"
    case .notAnImage: "not-an-image"
    case .inUse: "in-use"
    case .noSpace: "no-space"
    case .inputOutput: "input-output"
    case .auditFailed: "audit-failed"
    case .timedOut: "timed-out"
    case .notFound: "not-found"
    case .refused: "refused"
    }
  }

  public var description: String { name }
}

/// An error with a place in the list of outcomes and a sentence for people: what failed, which store, what to do.
public protocol StatusError: Error, CustomStringConvertible {
  var status: Status { get }
}
