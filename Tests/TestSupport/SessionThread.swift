import CLibkeyutils
import Foundation
import Synchronization

/// One thread with a session keyring of its own, on which all children are started: they inherit it, and so keys of
/// these tests are seen by nobody else. A session keyring hangs on the thread that joined it, not on the process.
public final class SessionThread: Sendable {
  public static let shared = SessionThread()

  private let jobs = Mutex<[@Sendable () -> Void]>([])
  private let pending = DispatchSemaphore(value: 0)

  private init() {
    let thread = Thread { [self] in
      _ = keyctl_join_session_keyring(nil)
      while true {
        pending.wait()
        let job = jobs.withLock { $0.removeFirst() }
        job()
      }
    }
    thread.start()
  }

  /// Runs `body` on the thread and waits for it.
  public func run<T: Sendable>(_ body: @escaping @Sendable () -> T) -> T {
    let box = Box<T>()
    let done = DispatchSemaphore(value: 0)
    let job: @Sendable () -> Void = {
      let value = body()
      box.value.withLock { $0 = value }
      done.signal()
    }
    jobs.withLock { $0.append(job) }
    pending.signal()
    done.wait()
    guard let value = box.value.withLock({ $0 }) else { preconditionFailure("the job has run") }
    return value
  }

  private final class Box<T: Sendable>: Sendable {
    let value = Mutex<T?>(nil)
  }
}
