import StorageSimulation

/// How the order of a schedule's threads is chosen, and how its clock behaves.
public struct ScheduleOptions: Sendable {
  public enum Strategy: Sendable, Equatable {
    /// Any thread that can run, at each step.
    case uniform
    /// Always the one of the highest priority. Priorities are random, and at `depth` - 1 of the first `steps` steps the
    /// running thread falls behind all others: what goes wrong in one order of `depth` steps is met with a chance of at
    /// least 1 in threads · steps to the power of depth - 1 (Burckhardt et al., "A randomized scheduler with
    /// probabilistic guarantees of finding bugs", 2010).
    case priorities(depth: Int, steps: Int)
    /// The same thread goes on, but for one step in so many.
    case runOn(oneIn: Int)
  }

  public var strategy = Strategy.uniform
  /// One park in so many returns for no reason; 0: none.
  public var spuriousOneIn = 0
  /// At one step in so many the clock jumps to the next deadline though threads can run; 0: none.
  public var earlyDeadlineOneIn = 0
  /// At one step in so many the clock jumps ahead, by milliseconds to years; 0: none.
  public var clockJumpOneIn = 0
  /// A schedule that isn't over after so many steps is a livelock.
  public var maximumSteps = 50_000
  /// Keep what happened, for `DeterministicThreads.trace`.
  public var traces = false

  public init() {}

  /// Some mix, of the generator's choosing.
  public static func random(_ generator: inout SeededGenerator) -> ScheduleOptions {
    func pick<T>(_ choices: [T]) -> T { choices[Int(generator.next() % UInt64(choices.count))] }
    var options = ScheduleOptions()
    switch generator.next() % 4 {
    case 0: options.strategy = .uniform
    case 1, 2: options.strategy = .priorities(depth: pick([1, 2, 3, 4]), steps: pick([50, 200, 1000]))
    default: options.strategy = .runOn(oneIn: pick([4, 16, 64]))
    }
    options.spuriousOneIn = pick([0, 0, 16])
    options.earlyDeadlineOneIn = pick([0, 0, 16, 256])
    options.clockJumpOneIn = pick([0, 0, 0, 256])
    return options
  }
}

/// What a schedule broke.
public struct ScheduleViolation: Error, Sendable, Equatable, CustomStringConvertible {
  public enum Kind: String, Sendable {
    /// All threads wait, and none for a time.
    case hang = "HANG"
    /// Threads run, or the clock does, and the schedule doesn't end.
    case livelock = "LIVELOCK"
    /// A thread doesn't come back from what it does, though no other thread runs.
    case stuck = "STUCK"
    /// What the test says.
    case broken = "BROKEN"
  }

  public let kind: Kind
  public let text: String

  public init(_ kind: Kind, _ text: String) {
    self.kind = kind
    self.text = text
  }

  public var description: String { "\(kind.rawValue): \(text)" }
}
