import Primitives

/// Why a store couldn't load, store or delete a state. Equality is on the status; the message is for people.
public struct TPMStateError: StatusError, Equatable {
  public let status: Status
  /// One sentence that names the store: what failed, why, and the remedy. It reaches the log, so no secrets.
  public let message: String

  public init(_ status: Status, _ message: String) {
    self.status = status
    self.message = message
  }

  public static func == (a: Self, b: Self) -> Bool { a.status == b.status }

  public var description: String { message }
}
