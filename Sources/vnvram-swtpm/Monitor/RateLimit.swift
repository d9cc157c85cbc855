/// How often the worker may have something done that costs synced records, on a disk that other machines' records need,
/// too.
struct RateLimit {
  static let most = 60
  static let period = Duration.seconds(60)

  private var times: [ContinuousClock.Instant] = []

  /// Counts one more. False where there were too many lately.
  mutating func take() -> Bool {
    let now = ContinuousClock.now
    times.removeAll { $0 + Self.period < now }
    guard times.count < Self.most else { return false }
    times.append(now)
    return true
  }
}
