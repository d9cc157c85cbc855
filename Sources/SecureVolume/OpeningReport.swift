import Primitives

/// How an image was found when it was opened. An unclean close is no error, but it is said: cutting records off the
/// end of such an image can't be told from a power cut by the image alone (DESIGN P5).
public struct OpeningReport: Equatable, Sendable {
  public let wasClosedCleanly: Bool
  /// The header copy that a power cut (or someone) spoilt, or that was behind: 0 for A, 1 for B.
  public let outdatedHeaderCopy: Int?
  /// Journal records that were replayed.
  public let recordsReplayed: Int
  /// The generation that was recovered.
  public let generation: Generation
  /// What the anchor said; `nil` where there was none, or the image was accepted as it is.
  public internal(set) var anchor: AnchorFinding?
}
