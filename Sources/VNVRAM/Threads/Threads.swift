/// Threads and a clock: the system's, or those of a test that chooses in which order they run.
package enum Threads: Sendable {
  case system
  case simulated(any SimulatedThreads)

  package typealias ID = UInt

  package var now: Instant {
    switch self {
    case .system: .now
    case .simulated(let threads): threads.now
    }
  }

  /// The calling thread.
  package var current: ID {
    switch self {
    case .system: SystemThread.current
    case .simulated(let threads): threads.current
    }
  }

  /// A place at which a simulated thread may be made to wait for others; nothing otherwise.
  @inline(__always)
  package func yield() {
    if case .simulated(let threads) = self { threads.yield() }
  }

  /// Runs `body` on a thread of its own, which inherits the keyrings of the caller. It is to be joined or detached,
  /// once.
  package func start(_ body: @escaping @Sendable () -> Void) throws(SystemThread.Failure) -> ID {
    switch self {
    case .system: try SystemThread.start(body)
    case .simulated(let threads): try threads.start(body)
    }
  }

  /// Waits until a thread's body has returned; for another thread than that.
  package func join(_ thread: ID) {
    switch self {
    case .system: SystemThread.join(thread)
    case .simulated(let threads): threads.join(thread)
    }
  }

  /// Lets a thread end by itself.
  package func detach(_ thread: ID) {
    if case .system = self { SystemThread.detach(thread) }
  }
}

/// What a test gives in place of the system's threads. One of its threads runs at a time, and only within these calls
/// does another go on: what is done between two of them is done in one piece.
package protocol SimulatedThreads: AnyObject, Sendable {
  var now: Instant { get }
  var current: Threads.ID { get }
  /// Others may run before this returns.
  func yield()
  func makeParker() -> Int
  /// Waits until the parker was woken, once for each time, or until `deadline`; or returns for no reason.
  func park(_ parker: Int, until deadline: Instant?)
  func unpark(_ parker: Int)
  func start(_ body: @escaping @Sendable () -> Void) throws(SystemThread.Failure) -> Threads.ID
  func join(_ thread: Threads.ID)
}
