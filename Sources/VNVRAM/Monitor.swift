// A lock that guards an object, and conditions to wait for under it. The standard library's Mutex has no conditions.
import Glibc

/// A lock with the state that it guards. The state is an object, not a value lent as inout: it changes while a thread
/// waits for a condition.
@safe final class Monitor<State: AnyObject>: @unchecked Sendable {
  private let mutex: UnsafeMutablePointer<pthread_mutex_t>
  private let state: State

  init(_ state: State) {
    self.state = state
    unsafe mutex = .allocate(capacity: 1)
    unsafe mutex.initialize(to: pthread_mutex_t())
    precondition(unsafe pthread_mutex_init(mutex, nil) == 0)
  }

  deinit {
    unsafe pthread_mutex_destroy(mutex)
    unsafe mutex.deallocate()
  }

  func withLock<R, E: Error>(_ body: (State) throws(E) -> R) throws(E) -> R {
    unsafe pthread_mutex_lock(mutex)
    defer { unsafe pthread_mutex_unlock(mutex) }
    return try body(state)
  }

  /// Gives the lock up for the length of `body`. The caller has it.
  func withoutLock<R, E: Error>(_ body: () throws(E) -> R) throws(E) -> R {
    unsafe pthread_mutex_unlock(mutex)
    defer { unsafe pthread_mutex_lock(mutex) }
    return try body()
  }

  /// Waits until `condition` is signalled or `deadline` passes, or for no reason at all: look again. The caller has the
  /// lock, and has it again afterwards.
  func wait(for condition: Condition, until deadline: Instant?) {
    guard let deadline else {
      unsafe pthread_cond_wait(condition.pointer, mutex)
      return
    }
    var time = timespec(
      tv_sec: Int(deadline.nanoseconds / 1_000_000_000), tv_nsec: Int(deadline.nanoseconds % 1_000_000_000))
    _ = unsafe pthread_cond_timedwait(condition.pointer, mutex, &time)
  }
}

/// What threads wait for; see `Monitor.wait`.
@safe final class Condition: @unchecked Sendable {
  fileprivate let pointer: UnsafeMutablePointer<pthread_cond_t>

  init() {
    unsafe pointer = .allocate(capacity: 1)
    unsafe pointer.initialize(to: pthread_cond_t())
    var attributes = pthread_condattr_t()
    precondition(unsafe pthread_condattr_init(&attributes) == 0)
    // Not the wall clock, which people set.
    precondition(unsafe pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0)
    precondition(unsafe pthread_cond_init(pointer, &attributes) == 0)
    unsafe pthread_condattr_destroy(&attributes)
  }

  deinit {
    unsafe pthread_cond_destroy(pointer)
    unsafe pointer.deallocate()
  }

  func signal() { unsafe pthread_cond_signal(pointer) }
  func broadcast() { unsafe pthread_cond_broadcast(pointer) }
}

/// A point of CLOCK_MONOTONIC.
struct Instant: Comparable, Sendable {
  let nanoseconds: UInt64

  static var now: Instant {
    var time = timespec()
    unsafe clock_gettime(CLOCK_MONOTONIC, &time)
    return Instant(nanoseconds: UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec))
  }

  /// What lies further ahead than a century doesn't happen; what is negative has passed.
  func advanced(by duration: Duration) -> Instant {
    let century = Duration.seconds(3_155_760_000)
    let (seconds, attoseconds) = max(.zero, min(duration, century)).components
    return Instant(nanoseconds: nanoseconds + UInt64(seconds) * 1_000_000_000 + UInt64(attoseconds / 1_000_000_000))
  }

  static func < (a: Self, b: Self) -> Bool { a.nanoseconds < b.nanoseconds }
}
