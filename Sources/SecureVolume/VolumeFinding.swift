import Primitives

/// Something that is wrong with what an image holds, as `check` and salvaging name it.
public struct VolumeFinding: Equatable, Sendable {
  /// The stable name in `--json`: a reason of FORMAT §10, or `unreadable`.
  public enum Code: String, Sendable {
    case geometry
    case header
    case headerPair = "header-pair"
    case journal
    case tree
    case sector
    /// The device reports an error; what is there may come back.
    case unreadable
  }

  public enum Severity: String, Sendable {
    /// Something isn't as the key's holder wrote it.
    case damage
    /// Something can't be read.
    case unreadable
    /// The image can be trusted nevertheless.
    case notice
  }

  public let code: Code
  public let severity: Severity
  /// Where in the image it lies.
  public let offset: ByteOffset
  /// The sector, where it is one.
  public let sector: SectorIndex?
  /// One sentence: what is wrong, and with what.
  public let detail: String

  init(_ code: Code, _ severity: Severity, at offset: ByteOffset, sector: SectorIndex? = nil, _ detail: String) {
    self.code = code
    self.severity = severity
    self.offset = offset
    self.sector = sector
    self.detail = detail
  }

  /// What an error says that ends other work: `code`, or `.unreadable` where the device failed.
  init(_ error: VolumeError, _ code: Code, at offset: ByteOffset) {
    // Past the end of a file that is too short nothing will come back.
    if case .device(let status) = error.code, status != .notAuthentic {
      self.init(.unreadable, .unreadable, at: offset, "\(error.detail)")
    } else {
      self.init(code, .damage, at: offset, error.detail)
    }
  }
}
