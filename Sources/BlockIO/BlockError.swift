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
