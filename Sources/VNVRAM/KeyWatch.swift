import Primitives

/// When to look for keys next. The kernel says nothing by itself: KEYCTL_WATCH_KEY is not in every kernel. Where it is,
/// a thread that reads its notifications would call `hurry`, and nothing else would change.
struct KeyWatch {
  private let shortest: Duration
  private let longest: Duration
  private let whileRunning: Duration?
  private var delay: Duration
  private(set) var next: Instant?
  /// Someone asked to look now, and to try what is there even if it has not changed.
  private(set) var isUrgent = false

  init(_ configuration: NVRAMConfiguration) {
    shortest = max(.milliseconds(1), configuration.shortestKeySearchInterval)
    longest = max(shortest, configuration.longestKeySearchInterval)
    whileRunning = configuration.keyLossPolicy == .lock ? max(.milliseconds(1), configuration.keyCheckInterval) : nil
    delay = shortest
  }

  /// A key is missing: look often at first.
  mutating func startSearch(now: Instant) {
    delay = shortest
    next = now.advanced(by: delay)
  }

  /// Still missing: look less often.
  mutating func searched(now: Instant) {
    isUrgent = false
    delay = min(longest, delay + delay / 2)
    next = now.advanced(by: delay)
  }

  /// The store runs: see now and then whether its key is still there.
  mutating func startGuard(now: Instant) {
    isUrgent = false
    next = whileRunning.map { now.advanced(by: $0) }
  }

  mutating func stop() {
    next = nil
    isUrgent = false
  }

  mutating func hurry() { isUrgent = true }

  func isDue(now: Instant) -> Bool {
    if isUrgent { return true }
    guard let next else { return false }
    return next <= now
  }
}
