import Glibc
import ModelChecker
import Synchronization

/// Seeds one after the other on several threads, until the time is over or one fails.
final class Run: Sendable {
  private struct State {
    var next: UInt64
    var tally = Tally()
    var failure: (SeedResult, (violation: Violation, step: Int))?
    var shown = 0
  }

  private let state: Mutex<State>
  private let unit: Int?
  private let steps: Int
  private let seconds: Int
  private let started = ContinuousClock.now

  init(firstSeed: UInt64, unit: Int?, steps: Int, seconds: Int) {
    state = Mutex(State(next: firstSeed))
    self.unit = unit
    self.steps = steps
    self.seconds = seconds
  }

  var failure: (SeedResult, (violation: Violation, step: Int))? { state.withLock { $0.failure } }

  private var elapsed: Duration { ContinuousClock.now - started }

  var report: String {
    let (milliseconds, tally) = (elapsed / .milliseconds(1), state.withLock { $0.tally })
    let rate = Int(Double(tally.states) / max(1, milliseconds) * 1000)
    return tally.report + "\nin \(Int(milliseconds / 1000)) s, \(rate) states/s"
  }

  /// Returns when all threads are done.
  func work(jobs: Int) {
    let threads = (0..<jobs).map { _ in
      var thread = pthread_t()
      let context = unsafe Unmanaged.passRetained(self).toOpaque()
      let made = unsafe pthread_create(
        &thread, nil,
        { context in
          guard let context = unsafe context else { return nil }
          unsafe Unmanaged<Run>.fromOpaque(context).takeRetainedValue().workAlone()
          return nil
        }, context)
      precondition(made == 0, "no thread")
      return thread
    }
    for thread in threads { pthread_join(thread, nil) }
  }

  private func workAlone() {
    while let seed = take() {
      let result = Checker(seed: seed, unit: unit).run(steps: steps)
      let line = state.withLock { state -> String? in
        state.tally.add(result.tally)
        if let failure = result.failure, state.failure == nil { state.failure = (result, failure) }
        let second = Int(elapsed / .seconds(1))
        guard second > state.shown else { return nil }
        state.shown = second
        return "\(second) s: \(state.tally.states) states, \(state.tally.workloads) seeds"
      }
      if let line, isatty(STDERR_FILENO) == 1 {
        let text = Array("\r\u{1B}[K\(line)".utf8)
        _ = unsafe text.withUnsafeBytes { unsafe write(STDERR_FILENO, $0.baseAddress, $0.count) }
      }
    }
  }

  private func take() -> UInt64? {
    state.withLock { state in
      guard state.failure == nil, elapsed < .seconds(seconds) else { return nil }
      state.next += 1
      return state.next - 1
    }
  }
}
