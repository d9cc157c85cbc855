import Primitives

/// When to look for keys next. The kernel says nothing by itself: KEYCTL_WATCH_KEY is not in every kernel. Where it is,
/// a thread that reads its notifications would call `hurry`, and nothing else would change.
///
/// Invariants: keys are not tried more often than every `shortestTrial`, whoever hurries and however often; no `hurry`
/// is lost, for one that comes too early is heeded when that time is over.
struct KeyWatch {
  private let shortest: Duration
  private let longest: Duration
  private let shortestTrial: Duration
  private let comparison: Duration
  private let whileRunning: Duration?
  private let findsKeys: Bool
  private var delay: Duration
  private var look: Instant?
  private var trial = Instant(nanoseconds: 0)
  private var nextComparison = Instant(nanoseconds: 0)
  /// Someone asked to look, and to try what is there even if it has not changed.
  private(set) var isUrgent = false

  init(_ configuration: NVRAMConfiguration) {
    shortest = max(.milliseconds(1), configuration.shortestKeySearchInterval)
    longest = max(shortest, configuration.longestKeySearchInterval)
    findsKeys = configuration.findsKeys
    shortestTrial = max(.milliseconds(1), configuration.shortestKeyTrialInterval)
    comparison = max(.milliseconds(1), configuration.keyCheckInterval)
    whileRunning = configuration.keyLossPolicy == .lock && findsKeys ? comparison : nil
    delay = shortest
  }

  /// A key is missing: look often at first.
  mutating func startSearch(now: Instant) {
    guard findsKeys else { return stop() }
    delay = shortest
    look = now.advanced(by: delay)
    nextComparison = now.advanced(by: comparison)
  }

  /// Still missing: look less often. What `hurry` asked for is being done.
  mutating func searched(now: Instant) {
    isUrgent = false
    delay = min(longest, delay + delay / 2)
    look = now.advanced(by: delay)
  }

  /// The store runs: see now and then whether its key is still there. The first time at once, since who looks learns
  /// then whether it comes to the key at all.
  mutating func startGuard(now: Instant) {
    isUrgent = false
    look = whileRunning == nil ? nil : now
  }

  /// It is being looked at.
  mutating func guarded(now: Instant) {
    isUrgent = false
    look = whileRunning.map { now.advanced(by: $0) }
    tried(now: now)
  }

  mutating func stop() {
    look = nil
    isUrgent = false
  }

  mutating func hurry() { isUrgent = findsKeys }
  mutating func forgetHurry() { isUrgent = false }

  /// Whether keys may be tried yet.
  func mayTry(now: Instant) -> Bool { trial <= now }

  /// Keys are about to be tried, or the one that is guarded looked at.
  mutating func tried(now: Instant) { trial = now.advanced(by: shortestTrial) }

  /// Whether it is time to read again a key that was wrong and that looks the same. It counts as read.
  mutating func takeComparison(now: Instant) -> Bool {
    guard nextComparison <= now else { return false }
    nextComparison = now.advanced(by: comparison)
    return true
  }

  /// When to look.
  var next: Instant? { isUrgent ? trial : look }

  func isDue(now: Instant) -> Bool { next.map { $0 <= now } ?? false }
}
