import Primitives

/// How an image was found when it was opened. An unclean close is no error, but it is said: cutting records off the
/// end of such an image can't be told from a power cut by the image alone (DESIGN P5).
public struct OpeningReport: Equatable, Sendable {
  public let wasClosedCleanly: Bool
  /// The header copy that a power cut (or someone) spoilt, that was behind, or that can't be read: 0 for A, 1 for B.
  public let outdatedHeaderCopy: Int?
  /// Journal records that were replayed.
  public let recordsReplayed: Int
  /// The generation that was recovered.
  public let generation: Generation
  /// What the anchor said; `nil` where there was none, or the image was accepted as it is.
  public internal(set) var anchor: AnchorFinding?
  /// What opening met and could do without; when salvaging, what is damaged.
  public internal(set) var findings: [VolumeFinding] = []
  /// What the leaves are worth, by which sectors are verified.
  public internal(set) var trust = Trust.tree

  public enum Trust: String, Sendable {
    /// They belong to a tree whose root an authentic header, or record, names.
    case tree
    /// Each was taken for itself, when salvaging: nothing tells whether two are of the same moment, or how old one is.
    case sectors
  }
}
