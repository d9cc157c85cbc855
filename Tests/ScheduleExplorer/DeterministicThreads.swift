// Threads of which one runs at a time, in an order that follows from a seed.
//
// Each is a thread of the system's that waits for its baton. Who runs chooses, at each call of this, who runs next:
// mostly itself, and then nothing happens; else it posts that one's baton and waits for its own. So all state here is
// guarded by having the turn, and what a baton orders. Nothing depends on addresses, on the wall clock or on a
// dictionary's order: the same seed and the same program are the same schedule.
import StorageSimulation
import VNVRAM

/// One schedule: its threads, from the first to the end of the last, or to a violation. Its state belongs to the thread
/// that has the turn.
public final class DeterministicThreads: @unchecked Sendable {
  private enum State: Equatable {
    case ready
    case parked(Int, until: UInt64?)
    case joining(Int)
    case ended
  }

  /// Where a thread was last. Numbers are of parkers and threads.
  private enum Call: Hashable {
    case begin, yield, park(Int), unpark(Int), start(Int), join(Int), end
  }

  private enum TraceLine {
    case call(thread: Int, Call, time: UInt64)
    case note(thread: Int, String)
  }

  public let options: ScheduleOptions
  private let pool: ThreadPool
  private let seed: UInt64
  private var generator: SeededGenerator
  private let finished = Baton()

  // By thread.
  private var states: [State] = []
  private var names: [String] = []
  private var workers: [PooledThread] = []
  private var priorities: [Int] = []
  private var calls: [Call] = []
  private var notes: [String] = []
  /// The threads that can run, in an order of no meaning.
  private var ready: [Int] = []
  private var running = 0
  private var alive = 0

  /// How often each parker was woken while nobody waited there.
  private var tokens: [Int] = []
  private var time: UInt64 = 1_000_000_000_000
  /// A century, at most.
  private var jumpsLeft = 8
  /// Steps at which the running thread falls behind.
  private var changes: [Int] = []
  private var lowestPriority = 0
  /// The step at which each thread ran last, or could again.
  private var lastTurns: [Int] = []

  /// How often a thread called here.
  public private(set) var steps = 0
  /// How often another thread went on.
  public private(set) var switches = 0
  /// Of all choices: two schedules with one hash are the same one.
  public private(set) var hash: UInt64 = 0xCBF2_9CE4_8422_2325
  /// Asked when all threads wait, and the first of them for a time, before that comes: what ought not to wait for it,
  /// so many nanoseconds from now.
  public var whenIdle: ((UInt64) -> String?)?
  private var violation: ScheduleViolation?
  private var lines: [TraceLine] = []

  public init(_ pool: ThreadPool, seed: UInt64, _ options: ScheduleOptions) {
    self.pool = pool
    self.options = options
    self.seed = seed
    generator = SeededGenerator(seed: seed)
    guard case .priorities(let depth, let steps) = options.strategy else { return }
    for _ in 1..<max(1, depth) { changes.append(below(steps)) }
  }

  /// Runs `main` as the first thread, and returns when all threads have ended, or at the first violation. Threads of a
  /// schedule that was violated stay where they are for good.
  public func run(_ main: @escaping @Sendable () -> Void) -> ScheduleViolation? {
    add("main", main)
    running = 0
    workers[0].baton.post()
    guard finished.wait(seconds: 120) else {
      return ScheduleViolation(.stuck, "a thread holds its turn for more than 120 s")
    }
    return violation
  }

  /// Starts a thread of the test's own, under a name for messages.
  @discardableResult
  public func start(_ name: String, _ body: @escaping @Sendable () -> Void) -> UInt {
    let thread = add(name, body)
    step(.start(thread))
    return UInt(thread + 1)
  }

  /// What the running thread is about to do, for messages.
  public func note(_ text: @autoclosure () -> String) {
    guard options.traces else { return }
    notes[running] = text()
    lines.append(.note(thread: running, notes[running]))
  }

  /// Ends the schedule. For the running thread; it stays here for good.
  public func fail(_ text: String) -> Never { fail(ScheduleViolation(.broken, text)) }

  /// What the running thread does takes so long.
  public func pass(_ duration: Duration) {
    advance(to: Instant(nanoseconds: time).advanced(by: duration).nanoseconds)
    step(.yield)
  }

  /// Nanoseconds of the schedule's clock.
  public var nanoseconds: UInt64 { time }

  /// The number of the running thread, from 1.
  public var currentThread: Int { running + 1 }

  /// The name of the running thread.
  public var currentName: String { names[running] }

  // MARK: Threads

  @discardableResult
  private func add(_ name: String, _ body: @escaping @Sendable () -> Void) -> Int {
    let thread = states.count
    let worker = pool.take()
    worker.seed = seed
    worker.body = { [self] in
      body()
      end(worker)
    }
    states.append(.ready)
    names.append(name)
    workers.append(worker)
    priorities.append(Int(generator.next() >> 8))
    calls.append(.begin)
    lastTurns.append(steps)
    notes.append("")
    ready.append(thread)
    alive += 1
    return thread
  }

  /// The last thing that a thread does here. Its system's thread is free from then on, and touches nothing after the
  /// baton is posted.
  private func end(_ worker: PooledThread) {
    record(.end)
    states[running] = .ended
    removeReady(running)
    alive -= 1
    let ended = running
    for thread in states.indices where states[thread] == .joining(ended) { makeReady(thread) }
    guard alive > 0 else {
      pool.giveBack(worker)
      return finished.post()
    }
    moveClock()
    let next = choose()
    running = next
    switches += 1
    let baton = workers[next].baton
    pool.giveBack(worker)
    baton.post()
  }

  private func makeReady(_ thread: Int) {
    states[thread] = .ready
    lastTurns[thread] = steps
    ready.append(thread)
  }

  private func removeReady(_ thread: Int) {
    guard let index = ready.firstIndex(of: thread) else { return }
    ready.swapAt(index, ready.count - 1)
    ready.removeLast()
  }

  private func wait(_ state: State) {
    states[running] = state
    removeReady(running)
  }

  // MARK: Choosing

  /// The running thread is here. Returns when it is its turn again.
  private func step(_ call: Call) {
    let own = running
    record(call)
    if steps >= options.maximumSteps {
      fail(ScheduleViolation(.livelock, "\(steps) steps, and no end: \(whereThreadsAre)"))
    }
    moveClock()
    let next = choose()
    guard next != own else { return }
    running = next
    switches += 1
    let baton = workers[own].baton
    workers[next].baton.post()
    baton.wait()
  }

  private func choose() -> Int {
    if ready.isEmpty { passTime() }
    if ready.count == 1 { return ready[0] }
    let isReady = states[running] == .ready
    switch options.strategy {
    case .uniform: return ready[below(ready.count)]
    case .runOn(let oneIn):
      if isReady, below(oneIn) != 0 { return running }
      return ready[below(ready.count)]
    case .priorities:
      if changes.contains(steps) { demote(running) }
      // Who waits by calling again and again would keep the others out.
      if steps % 512 == 0, let first = ready.min(by: { lastTurns[$0] < lastTurns[$1] }), lastTurns[first] < steps - 1000
      {
        for thread in ready where thread != first { demote(thread) }
      }
      return ready.max { priorities[$0] < priorities[$1] } ?? running
    }
  }

  private func demote(_ thread: Int) {
    lowestPriority -= 1
    priorities[thread] = lowestPriority
  }

  private func below(_ count: Int) -> Int { Int(generator.next() % UInt64(max(1, count))) }

  private func happens(oneIn count: Int) -> Bool { count > 0 && below(count) == 0 }

  private func record(_ call: Call) {
    steps += 1
    calls[running] = call
    lastTurns[running] = steps
    let code: Int =
      switch call {
      case .begin: 0
      case .yield: 1
      case .park(let parker): 8 + parker * 8
      case .unpark(let parker): 9 + parker * 8
      case .start(let thread): 10 + thread * 8
      case .join(let thread): 11 + thread * 8
      case .end: 2
      }
    hash = (hash ^ UInt64(code << 8 | running)) &* 0x100_0000_01B3
    if options.traces { lines.append(.call(thread: running, call, time: time)) }
  }

  // MARK: The clock

  private var nextDeadline: UInt64? {
    var next: UInt64?
    for case .parked(_, let until?) in states where next.map({ until < $0 }) ?? true { next = until }
    return next
  }

  private func moveClock() {
    if happens(oneIn: options.earlyDeadlineOneIn), let deadline = nextDeadline {
      advance(to: deadline)
    }
    if jumpsLeft > 0, happens(oneIn: options.clockJumpOneIn) {
      jumpsLeft -= 1
      let jumps: [UInt64] = [1_000_000, 1_000_000_000, 3_600_000_000_000, 400_000_000_000_000_000]
      advance(to: time + jumps[below(jumps.count)])
    }
  }

  /// No thread can run: the time comes for which the first of them waits.
  private func passTime() {
    guard let deadline = nextDeadline else {
      fail(ScheduleViolation(.hang, "all threads wait: \(whereThreadsAre)"))
    }
    if let text = whenIdle?(deadline - min(deadline, time)) {
      fail(ScheduleViolation(.hang, "\(text): \(whereThreadsAre)"))
    }
    advance(to: deadline)
  }

  private func advance(to instant: UInt64) {
    time = max(time, instant)
    for thread in states.indices {
      if case .parked(_, let until?) = states[thread], until <= time { makeReady(thread) }
    }
  }

  // MARK: Violations

  private func fail(_ violation: ScheduleViolation) -> Never {
    self.violation = violation
    finished.post()
    let never = Baton()
    while true { never.wait() }
  }

  private var whereThreadsAre: String {
    states.indices.filter { states[$0] != .ended }.map { thread in
      let doing = notes[thread].isEmpty ? "" : " in \(notes[thread])"
      return "\(names[thread])\(doing) \(describe(states[thread], calls[thread]))"
    }.joined(separator: "; ")
  }

  private func describe(_ state: State, _ call: Call) -> String {
    switch state {
    case .parked(let parker, nil): "waits at parker \(parker) without a deadline"
    case .parked(let parker, let until?):
      "waits at parker \(parker) until \(Self.milliseconds(until)) (it is \(Self.milliseconds(time)))"
    case .joining(let thread): "waits for the end of \(names[thread])"
    case .ready: "runs, last \(describe(call))"
    case .ended: "has ended"
    }
  }

  private func describe(_ call: Call) -> String {
    switch call {
    case .begin: "begins"
    case .yield: "yields"
    case .park(let parker): "parks at \(parker)"
    case .unpark(let parker): "wakes \(parker)"
    case .start(let thread): "starts \(names[thread])"
    case .join(let thread): "joins \(names[thread])"
    case .end: "ends"
    }
  }

  private static func milliseconds(_ time: UInt64) -> String { "\(time / 1_000_000) ms" }

  /// What happened, with `options.traces`; the last so many lines.
  public func trace(last count: Int = .max) -> String {
    lines.suffix(count).map { line in
      switch line {
      case .call(let thread, let call, let time): "\(Self.milliseconds(time)) \(names[thread]) \(describe(call))"
      case .note(let thread, let text): "          \(names[thread]): \(text)"
      }
    }.joined(separator: "\n")
  }
}

extension DeterministicThreads: SimulatedThreads {
  package var now: Instant { Instant(nanoseconds: time) }
  package var current: Threads.ID { UInt(running + 1) }

  package func yield() { step(.yield) }

  package func makeParker() -> Int {
    tokens.append(0)
    return tokens.count - 1
  }

  package func park(_ parker: Int, until deadline: Instant?) {
    if tokens[parker] > 0 {
      tokens[parker] -= 1
    } else if !happens(oneIn: options.spuriousOneIn), deadline.map({ $0.nanoseconds > time }) ?? true {
      wait(.parked(parker, until: deadline?.nanoseconds))
    }
    step(.park(parker))
  }

  package func unpark(_ parker: Int) {
    let waiting = states.indices.first {
      if case .parked(parker, _) = states[$0] { true } else { false }
    }
    if let waiting { makeReady(waiting) } else { tokens[parker] += 1 }
    step(.unpark(parker))
  }

  package func start(_ body: @escaping @Sendable () -> Void) -> Threads.ID {
    start("thread \(states.count)", body)
  }

  package func join(_ thread: Threads.ID) {
    let other = Int(thread) - 1
    if states[other] != .ended { wait(.joining(other)) }
    step(.join(other))
  }
}
