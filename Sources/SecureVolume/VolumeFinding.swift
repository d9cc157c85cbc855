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
  /// The first sector, where it is of sectors.
  public let sector: SectorIndex?
  /// How many sectors it is of, from that one on: what is alike and side by side is one finding.
  public let sectorCount: UInt64
  /// One sentence: what is wrong, and with what.
  public let detail: String

  init(
    _ code: Code, _ severity: Severity, at offset: ByteOffset, sector: SectorIndex? = nil, count: UInt64 = 1,
    _ detail: String
  ) {
    self.code = code
    self.severity = severity
    self.offset = offset
    self.sector = sector
    sectorCount = sector == nil ? 0 : count
    self.detail = detail
  }

  /// What an error says that ends other work: `code`, or `.unreadable` where the device failed.
  init(_ error: VolumeError, _ code: Code, at offset: ByteOffset, more: String = "") {
    // Past the end of a file that is too short nothing will come back.
    if case .device(let status) = error.code, status != .notAuthentic {
      self.init(.unreadable, .unreadable, at: offset, error.detail + more)
    } else {
      self.init(code, .damage, at: offset, error.detail + more)
    }
  }
}
