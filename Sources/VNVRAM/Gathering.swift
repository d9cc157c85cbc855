import Primitives

/// Whether a thread that could serve the queue waits a moment for others first. Threads that write one after the other
/// are all woken by the end of a commit, and the first of them would make the next one alone, with the others behind
/// it: two syncs for what one could do. So who comes first waits for as many as there were, but not for longer than a
/// part of what a commit takes; and where that was in vain, the next commits don't try again, and ever more of them.
struct Gathering: Sendable {
  /// Until then somebody waits for others.
  private(set) var until: Instant?
  /// How many writers there were last: those that were served, and those that had come meanwhile.
  private var expected = 1
  /// It is not worth while after this.
  private var end = Instant(nanoseconds: 0)
  /// So many commits don't gather.
  private var skipped = 0
  private var penalty = 1

  private static let longest = Duration.milliseconds(1)

  /// So many writes that somebody waited for were served from `start` to `now`, while others came to wait.
  mutating func noteServed(_ count: Int, waiting: Int, from start: Instant, to now: Instant) {
    guard count > 0 else { return }
    expected = count + waiting
    if skipped > 0 { skipped -= 1 }
    end = now.advanced(by: min(Self.longest, .nanoseconds((now.nanoseconds - start.nanoseconds) / 2)))
  }

  /// Whether to wait for more than the `count` that are there, by a thread that has time until `deadline`.
  func isWorthIt(with count: Int, now: Instant, until deadline: Instant? = nil) -> Bool {
    count < expected && skipped == 0 && now < end && deadline.map { end < $0 } ?? true
  }

  mutating func begin() { until = end }

  /// The queue is going to be served, with so many.
  mutating func stop(with count: Int) {
    guard until != nil else { return }
    until = nil
    if count < expected {
      penalty = min(1024, penalty * 2)
      skipped = penalty
    } else {
      penalty = 1
    }
  }
}
