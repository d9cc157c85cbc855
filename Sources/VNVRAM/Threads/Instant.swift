import Glibc

/// A point of CLOCK_MONOTONIC, which nobody sets, and which stands still while the machine sleeps.
package struct Instant: Comparable, Sendable {
  package let nanoseconds: UInt64

  package init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }

  package static var now: Instant {
    var time = timespec()
    unsafe clock_gettime(CLOCK_MONOTONIC, &time)
    return Instant(nanoseconds: UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec))
  }

  /// What lies further ahead than a century doesn't happen; what is negative has passed.
  package func advanced(by duration: Duration) -> Instant {
    let century = Duration.seconds(3_155_760_000)
    let (seconds, attoseconds) = max(.zero, min(duration, century)).components
    return Instant(nanoseconds: nanoseconds + UInt64(seconds) * 1_000_000_000 + UInt64(attoseconds / 1_000_000_000))
  }

  package static func < (a: Self, b: Self) -> Bool { a.nanoseconds < b.nanoseconds }
}
