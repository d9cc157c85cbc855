import Primitives
import Glibc

/// What exploring found.
public struct Exploration: Sendable {
  public struct Finding: Sendable {
    public let seed: UInt64
    public let violation: ScheduleViolation
    /// The last steps.
    public let trace: String

    public init(seed: UInt64, violation: ScheduleViolation, trace: String) {
      (self.seed, self.violation, self.trace) = (seed, violation, trace)
    }
  }

  public var schedules = 0
  /// Schedules that are not the same as another one.
  public var distinct: Int { hashes.count }
  public var steps = 0
  public var switches = 0
  public var tally = ScheduleTally()
  public var finding: Finding?
  var hashes: Set<UInt64> = []

  public var report: String {
    "schedules \(schedules), \(distinct) distinct, \(steps) steps, \(switches) switches\n\(tally.report)"
  }
}

/// What came of one schedule.
public struct ScheduleOutcome: Sendable {
  public let violation: ScheduleViolation?
  let threads: DeterministicThreads

  /// Of all choices.
  public var hash: UInt64 { threads.hash }
  /// What happened, line by line; the last so many.
  public func trace(last count: Int = .max) -> String { threads.trace(last: count) }
}

/// Runs the schedules of seeds, one after the other, on several workers, and stops at the first that breaks a promise.
public final class Explorer: Sendable {
  private struct State {
    var next: UInt64
    var result = Exploration()
  }

  private let state: Locked<State>
  private let end: UInt64
  private let deadline: ContinuousClock.Instant?

  private init(_ seeds: Range<UInt64>, _ deadline: ContinuousClock.Instant?) {
    state = Locked(State(next: seeds.lowerBound))
    end = seeds.upperBound
    self.deadline = deadline
  }

  /// - Parameters:
  ///   - until: no schedule begins after that.
  ///   - workers: groups of threads, each on a processor of its own.
  public static func explore(
    seeds: Range<UInt64>, until deadline: ContinuousClock.Instant? = nil, workers: Int
  ) throws -> Exploration {
    let explorer = Explorer(seeds, deadline)
    // Made here: what can't be made is an error of the caller's.
    let places = try (0..<workers).map { Place(try Images(), processor: $0) }
    let done = Baton()
    for place in places {
      PooledThread.start {
        explorer.work(place)
        done.post()
      }
    }
    for _ in places { done.wait() }
    var result = explorer.state.withLock { $0.result }
    if let found = result.finding { result.finding = try again(found) }
    return result
  }

  /// The same once more, to see what happened.
  private static func again(_ found: Exploration.Finding) throws -> Exploration.Finding {
    // It would hold its turn once more.
    guard found.violation.kind != .stuck else { return found }
    let outcome = try run(seed: found.seed)
    guard let violation = outcome.violation, violation.kind == found.violation.kind else {
      let text = "\(found.violation.text) (and not when it was run again)"
      return Exploration.Finding(seed: found.seed, violation: .init(found.violation.kind, text), trace: outcome.trace())
    }
    return Exploration.Finding(seed: found.seed, violation: violation, trace: outcome.trace(last: 40))
  }

  /// One schedule, with what happened in it.
  public static func run(seed: UInt64) throws -> ScheduleOutcome {
    let (violation, _, threads) = run(seed, try Images(), ThreadPool(processor: 0), traces: true)
    return ScheduleOutcome(violation: violation, threads: threads)
  }

  /// What a worker needs for itself.
  private struct Place: Sendable {
    let images: Images
    let processor: Int
    init(_ images: Images, processor: Int) { (self.images, self.processor) = (images, processor) }
  }

  /// Of one worker, whose schedules come one after the other.
  private final class Images: @unchecked Sendable {
    private let images: [Plan.Form: PristineImage]

    init() throws {
      var images: [Plan.Form: PristineImage] = [:]
      for form in Plan.Form.allCases { images[form] = try PristineImage(form) }
      self.images = images
    }

    subscript(_ form: Plan.Form) -> PristineImage {
      guard let image = images[form] else { preconditionFailure("all are there") }
      return image
    }
  }

  private static func run(
    _ seed: UInt64, _ images: Images, _ pool: ThreadPool, traces: Bool = false
  ) -> (ScheduleViolation?, ScheduleTally, DeterministicThreads) {
    let plan = Plan(seed: seed)
    var options = plan.options
    options.traces = traces
    let image = images[plan.form]
    image.disk.restore()
    let threads = DeterministicThreads(pool, seed: seed, options)
    let schedule = Schedule(plan, threads, image)
    let violation = threads.run { schedule.run() }
    return (violation, schedule.tally, threads)
  }

  private func work(_ place: Place) {
    let pool = ThreadPool(processor: place.processor)
    var result = Exploration()
    while let seed = take() {
      let (violation, tally, threads) = Self.run(seed, place.images, pool)
      result.schedules += 1
      result.steps += threads.steps
      result.switches += threads.switches
      result.hashes.insert(threads.hash)
      result.tally.add(tally)
      guard let violation else { continue }
      state.withLock { state in
        state.next = end
        if state.result.finding == nil {
          state.result.finding = Exploration.Finding(seed: seed, violation: violation, trace: "")
        }
      }
      // The threads of that schedule stay where they are, and with them its image.
      break
    }
    let mine = result
    state.withLock { state in
      state.result.schedules += mine.schedules
      state.result.steps += mine.steps
      state.result.switches += mine.switches
      state.result.hashes.formUnion(mine.hashes)
      state.result.tally.add(mine.tally)
    }
  }

  private func take() -> UInt64? {
    if let deadline, ContinuousClock.now >= deadline { return nil }
    return state.withLock { state in
      guard state.next < end else { return nil }
      state.next += 1
      return state.next - 1
    }
  }
}
