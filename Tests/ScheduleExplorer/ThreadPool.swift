import Glibc

/// One side waits until the other has posted. Counts, so that a post before the wait is not lost. The pointer never
/// changes, and what it points to is the C library's to guard.
@safe final class Baton: @unchecked Sendable {
  private let semaphore: UnsafeMutablePointer<sem_t>

  init() {
    unsafe semaphore = .allocate(capacity: 1)
    unsafe semaphore.initialize(to: sem_t())
    precondition(unsafe sem_init(semaphore, 0, 0) == 0)
  }

  deinit {
    unsafe sem_destroy(semaphore)
    unsafe semaphore.deallocate()
  }

  func post() { _ = unsafe sem_post(semaphore) }

  func wait() { while unsafe sem_wait(semaphore) != 0 {} }

  /// False after that many seconds of the wall clock.
  func wait(seconds: Int) -> Bool {
    var end = timespec()
    unsafe clock_gettime(CLOCK_REALTIME, &end)
    end.tv_sec += seconds
    while unsafe sem_timedwait(semaphore, &end) != 0 {
      if errno == ETIMEDOUT { return false }
    }
    return true
  }
}

/// A thread of the system's that runs one body after the other, each when its baton is posted, which orders who touches
/// what here.
final class PooledThread: @unchecked Sendable {
  let baton = Baton()
  /// Set before the baton is posted. When it has given the thread back, nothing of it is touched: the next may be set.
  var body: (() -> Void)?
  /// Of the schedule that the body belongs to.
  var seed: UInt64 = 0

  /// A thread that nobody posts any more waits until the process ends.
  func run() -> Never {
    while true {
      baton.wait()
      let body = self.body
      TrapReport.enter(seed)
      self.body = nil
      body?()
    }
  }
}

/// Threads that schedules take and give back, since making one takes longer than a short schedule. Used by one at a
/// time: the schedule's thread whose turn it is.
public final class ThreadPool: @unchecked Sendable {
  private var idle: [PooledThread] = []
  private let processor: Int?
  /// How many threads it has made.
  public private(set) var made = 0

  /// - Parameter processor: all threads run on one processor, the one of this number among those that the process may
  ///   use: handing over from one to the other is then a matter of one processor. `nil` leaves it to the system.
  public init(processor: Int? = nil) { self.processor = processor }

  func take() -> PooledThread {
    if let thread = idle.popLast() { return thread }
    made += 1
    let thread = PooledThread()
    var id = pthread_t()
    let code = unsafe pthread_create(
      &id, nil,
      { argument in
        guard let argument = unsafe argument else { return nil }
        unsafe Unmanaged<PooledThread>.fromOpaque(argument).takeRetainedValue().run()
      }, Unmanaged.passRetained(thread).toOpaque())
    precondition(code == 0, "no thread")
    if let processor { pin(id, to: processor) }
    pthread_detach(id)
    return thread
  }

  func giveBack(_ thread: PooledThread) { idle.append(thread) }

  private func pin(_ thread: pthread_t, to processor: Int) {
    guard let get = unsafe Self.find("pthread_getaffinity_np"), let set = unsafe Self.find("pthread_setaffinity_np")
    else { return }
    let size = MemoryLayout<cpu_set_t>.size
    var all = [UInt8](repeating: 0, count: size)
    guard unsafe get(thread, size, &all) == 0 else { return }
    let usable = (0..<size * 8).filter { all[$0 / 8] & (1 << UInt8($0 % 8)) != 0 }
    guard !usable.isEmpty else { return }
    let chosen = usable[processor % usable.count]
    var one = [UInt8](repeating: 0, count: size)
    one[chosen / 8] = 1 << UInt8(chosen % 8)
    _ = unsafe set(thread, size, &one)
  }

  private typealias Affinity = @convention(c) (pthread_t, Int, UnsafeMutableRawPointer) -> Int32

  /// These are GNU's, which Swift's module of the C library leaves out.
  private static func find(_ name: String) -> Affinity? {
    unsafe dlsym(nil, name).map { unsafe unsafeBitCast($0, to: Affinity.self) }
  }
}

extension PooledThread {
  /// A thread of the system's that runs one body.
  static func start(_ body: @escaping @Sendable () -> Void) {
    let thread = ThreadPool().take()
    thread.body = body
    thread.baton.post()
  }
}
