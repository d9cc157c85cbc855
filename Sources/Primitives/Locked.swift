// A lock and what it guards. The standard library's Mutex is the same to its user; but it is a futex of its own, which
// the thread sanitizer doesn't see, and what is done under it then looks like a race to `make tsan`.
import Glibc

/// A value that is reached under a lock alone. Not recursive.
@safe package final class Locked<State>: @unchecked Sendable {
  private let mutex: UnsafeMutablePointer<pthread_mutex_t>
  private var state: State

  package init(_ state: State) {
    self.state = state
    unsafe mutex = .allocate(capacity: 1)
    unsafe mutex.initialize(to: pthread_mutex_t())
    precondition(unsafe pthread_mutex_init(mutex, nil) == 0)
  }

  deinit {
    unsafe pthread_mutex_destroy(mutex)
    unsafe mutex.deallocate()
  }

  package func withLock<R, E: Error>(_ body: (inout State) throws(E) -> R) throws(E) -> R {
    unsafe pthread_mutex_lock(mutex)
    defer { unsafe pthread_mutex_unlock(mutex) }
    return try body(&state)
  }
}
