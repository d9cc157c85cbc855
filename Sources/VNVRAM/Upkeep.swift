import Primitives
import SecureVolume

/// When to free journal space and to bring the anchor up to date. Where writers come one after the other without a
/// pause, each does one step after its own commit: handing the store to another thread and back would cost more than
/// the step. Where there is a pause, the keeper does it all, and no writer waits for more than a step.
struct Upkeep: Sendable {
  /// So long after the last request a pause begins.
  static var pause: Duration { .milliseconds(1) }

  /// When the store was lent last.
  var lent = Instant(nanoseconds: 0)
  /// When requests were last served.
  private var served = Instant(nanoseconds: 0)
  /// When the keeper is to free journal space, if nothing comes between.
  private(set) var due: Instant?
  /// When a step is made though others wait.
  private var overdue: Instant?
  private static let longest = Duration.milliseconds(50)
  /// When the keeper is to bring the anchor up to date, if nothing does before.
  private(set) var anchorDue: Instant?
  /// Whether observers know that it could not be.
  private var hasAnchorTrouble = false

  /// After requests were served. Whether who served them is to do a step.
  ///
  /// - Parameter isIdle: nobody waits for the store.
  mutating func noteServed(_ condition: StoreCondition, isIdle: Bool, now: Instant) -> Bool {
    // From one's end to the other's beginning: a commit alone may take longer than a pause.
    let isBusy = lent < served.advanced(by: Self.pause)
    served = now
    guard condition.wantsUpkeep else {
      (due, overdue) = (nil, nil)
      return false
    }
    due = now.advanced(by: Self.pause)
    let isOverdue = overdue.map { $0 <= now } ?? false
    if overdue == nil || isOverdue { overdue = now.advanced(by: Self.longest) }
    return isBusy && isIdle || isOverdue
  }

  /// The keeper begins.
  mutating func begin() { due = nil }

  /// The keeper has done a step, and goes on at once if there is more of the same.
  mutating func end(_ condition: StoreCondition, hasMore: Bool, now: Instant) {
    if condition.wantsUpkeep { due = hasMore ? now : now.advanced(by: Self.pause) }
  }

  /// A store that writes rarely would otherwise leave its last commits unknown to the anchor for days.
  ///
  /// - Returns: what observers are to be told.
  mutating func noteAnchor(_ condition: StoreCondition, within longest: Duration, now: Instant) -> VolumeError? {
    guard condition.isAheadOfAnchor else {
      (hasAnchorTrouble, anchorDue) = (false, nil)
      return nil
    }
    if anchorDue == nil { anchorDue = now.advanced(by: longest) }
    guard let failure = condition.anchorFailure, !hasAnchorTrouble else { return nil }
    hasAnchorTrouble = true
    return failure
  }

  /// The anchor is being told.
  mutating func beginAnchor(now: Instant) {
    anchorDue = nil
    if due == nil { due = now }
  }

  var next: Instant? { [due, anchorDue].compactMap { $0 }.min() }
}
