import CSystem
import Glibc

/// Where one thread waits. To be woken before waiting is to wait not at all; so nothing is lost between looking and
/// waiting, and no lock is held meanwhile. It may wake for no reason: who waits looks again.
///
/// Nothing of it changes but the semaphore, which is the C library's to guard.
@safe package final class Parker: @unchecked Sendable {
  private let threads: Threads
  private let semaphore: UnsafeMutablePointer<sem_t>
  private let simulated: Int

  package init(_ threads: Threads) {
    self.threads = threads
    unsafe semaphore = .allocate(capacity: 1)
    unsafe semaphore.initialize(to: sem_t())
    precondition(unsafe sem_init(semaphore, 0, 0) == 0)
    if case .simulated(let threads) = threads { simulated = threads.makeParker() } else { simulated = 0 }
  }

  deinit {
    unsafe sem_destroy(semaphore)
    unsafe semaphore.deallocate()
  }

  /// Waits until it is woken, or until `deadline`.
  package func park(until deadline: Instant? = nil) {
    if case .simulated(let threads) = threads { return threads.park(simulated, until: deadline) }
    if let deadline {
      _ = unsafe csystem_semaphore_wait(semaphore, deadline.nanoseconds)
    } else {
      _ = unsafe sem_wait(semaphore)
    }
    // Once is enough, however often: who was woken looks at everything.
    while unsafe sem_trywait(semaphore) == 0 {}
  }

  package func unpark() {
    if case .simulated(let threads) = threads { return threads.unpark(simulated) }
    _ = unsafe sem_post(semaphore)
  }
}
