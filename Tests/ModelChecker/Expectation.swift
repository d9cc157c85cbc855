import Primitives

/// What a disk may be found to hold when it is opened, and so the failure model's promises (FORMAT §7):
///
/// - **Power cuts, failed writes and syncs** (an honest disk, whose caches lie after a failed sync): exactly the state
///   that was acknowledged last, or the one after the commit in flight; no refusal, and no earlier generation.
/// - **A lying disk** (writes or syncs that were lost or went elsewhere, and said they were done): it may lose what it
///   was given since the opening before this one, since nothing in the image can tell; the state is one that was,
///   whole, or the store is refused.
/// - **Bit rot, and the adversary who changes parts of an image**: the state that was, or refused; where only the
///   journal's last records were touched on an image that was not closed, a state since it was opened, as after a power
///   cut ("What no image can show by itself"); where both headers were put back, any state that was, whole.
struct Expectation {
  enum Kind: String {
    case exact, lyingDisk, adversary
  }

  var kind = Kind.exact
  /// Each of these is right.
  var states: [StoreState]
  /// Whole states that were there once and that this disk must not show: to tell a loss from a mix.
  var past: [StoreState] = []
  /// No earlier generation.
  var generation: UInt64 = 0
  /// Refusals that are legitimate.
  var refusals: Set<Status> = []
  /// Whether single entries may be refused as not authentic.
  var mayRefuseEntries = false

  static let damage: Set<Status> = [.notAuthentic, .wrongKey, .notAnImage]
  /// A header that was lost or written elsewhere looks like another writer's.
  static let lies = damage.union([.inUse])

  /// The numbers of the keys to try, those of the first state first.
  var keys: [Int] {
    var keys: [Int] = []
    for state in states { for key in state.keys where !keys.contains(key) { keys.append(key) } }
    return keys
  }
}

/// What was found.
enum Verdict {
  /// This state, whole or with entries refused where that is legitimate.
  case recovered(StoreState, isWhole: Bool)
  /// A legitimate refusal.
  case refused(Status)
  case violation(Violation)
}

/// A promise that was broken.
public struct Violation: Error, Sendable, CustomStringConvertible {
  public enum Kind: String, CaseIterable, Sendable {
    /// Something acknowledged is gone: an earlier state.
    case loss
    /// Something that never was as a whole.
    case mix
    /// A store that must open does not.
    case unopenable
    /// A key that must open doesn't, or one that must not does.
    case key
    /// A change to the image that must be refused was not.
    case unnoticed
    /// Anything else that isn't as the documents say.
    case misbehaviour
  }

  public let kind: Kind
  public let detail: String

  init(_ kind: Kind, _ detail: String) {
    self.kind = kind
    self.detail = detail
  }

  public var description: String { "\(kind): \(detail)" }
}
