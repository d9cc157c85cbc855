import Primitives
public struct VisitorError: StatusError, Equatable {
  public var status: Status { .failed }; public var description: String { "" }
}
