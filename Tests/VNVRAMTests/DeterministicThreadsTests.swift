import ScheduleExplorer
import StorageSimulation
import Synchronization
import Testing

@testable import VNVRAM

/// The explorer of schedules finds what it is for in small protocols, and nothing in right ones.
@Suite(
  .disabled(if: isSanitized, "schedules that hang leave hundreds of threads, which the thread sanitizer is slow with"))
struct DeterministicThreadsTests {
  /// One box, a producer and a consumer. `isWrong`: the consumer looks, and says that it waits in a second step.
  private final class Box: Sendable {
    private struct State {
      var values: [Int] = []
      var waiter: Parker?
    }
    private let state = Mutex(State())
    private let threads: Threads
    private let isWrong: Bool

    init(_ threads: Threads, isWrong: Bool) {
      self.threads = threads
      self.isWrong = isWrong
    }

    func put(_ value: Int) {
      threads.yield()
      let waiter = state.withLock { state in
        state.values.append(value)
        defer { state.waiter = nil }
        return state.waiter
      }
      waiter?.unpark()
    }

    func take(_ parker: Parker) -> Int {
      while true {
        threads.yield()
        let value = state.withLock { state -> Int? in
          if !state.values.isEmpty { return state.values.removeFirst() }
          if !isWrong { state.waiter = parker }
          return nil
        }
        if let value { return value }
        if isWrong {
          threads.yield()
          state.withLock { $0.waiter = parker }
        }
        parker.park()
      }
    }
  }

  private func runBox(
    _ pool: ThreadPool, seed: UInt64, isWrong: Bool, traces: Bool = false
  ) -> (ScheduleViolation?, DeterministicThreads) {
    var generator = SeededGenerator(seed: seed)
    var options = ScheduleOptions.random(&generator)
    options.traces = traces
    let simulated = DeterministicThreads(pool, seed: seed, options)
    let violation = simulated.run {
      let threads = Threads.simulated(simulated)
      let box = Box(threads, isWrong: isWrong)
      let consumer = simulated.start("consumer") {
        let parker = Parker(threads)
        for expected in 0..<3 {
          let value = box.take(parker)
          if value != expected { simulated.fail("\(value) instead of \(expected)") }
        }
      }
      let producer = simulated.start("producer") { for value in 0..<3 { box.put(value) } }
      threads.join(consumer)
      threads.join(producer)
    }
    return (violation, simulated)
  }

  @Test("a lost wake-up is a hang that names the threads; a right box has no violation in 3000 schedules")
  func lostWakeUp() {
    let pool = ThreadPool(processor: 0)
    var hangs: [ScheduleViolation] = []
    for seed in 0..<200 as Range<UInt64> {
      if let violation = runBox(pool, seed: seed, isWrong: true).0 { hangs.append(violation) }
    }
    #expect(!hangs.isEmpty && hangs.count < 200)
    #expect(hangs.allSatisfy { $0.kind == .hang })
    #expect(hangs.allSatisfy { $0.text.contains("consumer waits at parker 0 without a deadline") })
    var traces: Set<UInt64> = []
    let start = ContinuousClock.now
    var steps = 0
    var switches = 0
    for seed in 0..<3000 as Range<UInt64> {
      let (violation, threads) = runBox(pool, seed: seed, isWrong: false)
      if let violation { Issue.record("seed \(seed): \(violation)") }
      traces.insert(threads.hash)
      steps += threads.steps
      switches += threads.switches
    }
    #expect(traces.count > 500)
    print(
      "a box of three: 3000 schedules, \(traces.count) distinct, \(steps) steps, \(switches) switches in "
        + "\(ContinuousClock.now - start)")
  }

  @Test("an order that the test forbids is found, and doesn't come up where it can't")
  func wrongOrder() {
    let pool = ThreadPool()
    var failures = 0
    for seed in 0..<200 as Range<UInt64> {
      var generator = SeededGenerator(seed: seed)
      let simulated = DeterministicThreads(pool, seed: seed, .random(&generator))
      let violation = simulated.run {
        // Reads, and writes in a second step: one of two increments may be lost.
        let value = Mutex(0)
        let increment = Increment(value: value)
        let others = (0..<2).map { number in
          simulated.start("adder \(number)") {
            let before = increment.value.withLock { $0 }
            simulated.yield()
            increment.value.withLock { $0 = before + 1 }
          }
        }
        for other in others { simulated.join(other) }
        let sum = increment.value.withLock { $0 }
        if sum != 2 { simulated.fail("the sum is \(sum)") }
      }
      if let violation {
        failures += 1
        #expect(violation == ScheduleViolation(.broken, "the sum is 1"))
      }
    }
    #expect(failures > 0 && failures < 200)
  }

  private final class Increment: Sendable {
    let value: Mutex<Int>
    init(value: consuming Mutex<Int>) { self.value = value }
  }

  @Test("the same seed is the same schedule, with other threads of the system's")
  func sameAgain() {
    for seed in 0..<50 as Range<UInt64> {
      let runs = [ThreadPool(), ThreadPool(processor: 0)].map {
        runBox($0, seed: seed, isWrong: seed % 2 == 0, traces: true)
      }
      #expect(runs[0].0 == runs[1].0)
      #expect(runs[0].1.trace() == runs[1].1.trace())
      #expect(runs[0].1.hash == runs[1].1.hash)
      #expect(!runs[0].1.trace().isEmpty)
    }
  }

  @Test("a deadline passes when nothing else can happen, and not before")
  func deadlines() {
    let simulated = DeterministicThreads(ThreadPool(), seed: 1, ScheduleOptions())
    let violation = simulated.run {
      let threads = Threads.simulated(simulated)
      let parker = Parker(threads)
      let start = threads.now
      for _ in 0..<10 { threads.yield() }
      if threads.now != start { simulated.fail("the clock doesn't stand still") }
      parker.park(until: start.advanced(by: .seconds(5)))
      if threads.now != start.advanced(by: .seconds(5)) { simulated.fail("the clock is not at the deadline") }
      // Woken before: it doesn't wait.
      parker.unpark()
      parker.park(until: start.advanced(by: .seconds(50)))
      parker.park(until: start)
      if threads.now != start.advanced(by: .seconds(5)) { simulated.fail("it waited in vain") }
    }
    #expect(violation == nil)
  }

  @Test("a deadline that comes early, and a clock that jumps, let a wait for it end while others run")
  func clockJumps() {
    var early = ScheduleOptions()
    early.earlyDeadlineOneIn = 8
    var jump = ScheduleOptions()
    jump.clockJumpOneIn = 8
    for options in [early, jump] {
      var before = 0
      for seed in 0..<100 as Range<UInt64> {
        let simulated = DeterministicThreads(ThreadPool(), seed: seed, options)
        let (isDone, wasEarly) = (Flag(), Flag())
        let violation = simulated.run {
          let threads = Threads.simulated(simulated)
          let sleeper = simulated.start("sleeper") {
            Parker(threads).park(until: threads.now.advanced(by: .milliseconds(1)))
            isDone.set()
          }
          for _ in 0..<20 where !isDone.isSet { threads.yield() }
          if isDone.isSet { wasEarly.set() }
          threads.join(sleeper)
        }
        #expect(violation == nil)
        if wasEarly.isSet { before += 1 }
      }
      #expect(before > 20)
    }
  }

  private final class Flag: Sendable {
    private let value = Mutex(false)
    var isSet: Bool { value.withLock { $0 } }
    func set() { value.withLock { $0 = true } }
  }

  @Test("who never ends is a livelock, whatever the strategy, and keeps nobody else from running")
  func livelock() {
    for strategy in [ScheduleOptions.Strategy.uniform, .priorities(depth: 3, steps: 50), .runOn(oneIn: 64)] {
      var options = ScheduleOptions()
      options.strategy = strategy
      options.maximumSteps = 20_000
      let simulated = DeterministicThreads(ThreadPool(), seed: 7, options)
      let other = Flag()
      let violation = simulated.run {
        _ = simulated.start("other") { other.set() }
        while true { simulated.yield() }
      }
      #expect(violation?.kind == .livelock)
      #expect(other.isSet)
    }
  }

  @Test("waits also end for no reason where that is asked for")
  func spuriousWakeUps() {
    var options = ScheduleOptions()
    options.spuriousOneIn = 4
    var wakeUps = 0
    for seed in 0..<20 as Range<UInt64> {
      let simulated = DeterministicThreads(ThreadPool(), seed: seed, options)
      let violation = simulated.run {
        let parker = Parker(.simulated(simulated))
        for _ in 0..<100 { parker.park() }
      }
      // One after the other, until one of them waits.
      #expect(violation?.kind == .hang)
      wakeUps += simulated.steps
    }
    #expect(wakeUps > 20 && wakeUps < 20 * 100)
  }
}
