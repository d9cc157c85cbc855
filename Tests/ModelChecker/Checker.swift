// One seed: a workload on a simulated disk, faults, and the model beside them.
import BlobStore
import BlockIO
import Primitives
import SecureVolume
import StorageSimulation
import VNVRAM

/// What a seed gave.
public struct SeedResult: Sendable {
  public let seed: UInt64
  public let tally: Tally
  /// What was broken, and after how many steps: enough to have it again.
  public let failure: (violation: Violation, step: Int)?
  /// Says whether two runs did the same: of every step, and what came of it.
  public let trace: UInt64
  /// What led to a failure: the last steps, and the last operations of the disk.
  public let log: String
}

/// Runs one seed. Everything it does follows from the seed alone, but for the random bytes of keys and nonces that the
/// store itself draws: which of them they are changes nothing of what happens.
///
/// How the model decides is in `Expectation`. After every write and sync of the disk, and after every step, copies of
/// the disk are crashed, opened, recovered and compared; `Verifier` does that.
public final class Checker {
  let seed: UInt64
  var random: SeededGenerator
  var verifier: Verifier
  var tally = Tally()
  var violation: Violation?
  var step = 0
  /// Steps and what came of them, for people.
  var events: [String] = []
  private var trace: UInt64 = 0xCBF2_9CE4_8422_2325

  // The store under test.
  var disk = SimulatedDisk(size: ByteCount(4096))
  var geometry: Geometry
  /// What a power cut leaves old, new or garbage as a whole.
  var unit = 4096
  let onlyUnit: Int?
  var core: StoreCore?
  var profile = Profile()

  // The model.
  /// States after each commit of what is being done, the acknowledged one first.
  var plan: [StoreState] = []
  /// How many of the plan's commits are acknowledged by now.
  var progress: () -> Int = { 0 }
  /// Every state that was acknowledged, or found after a cut, in order.
  var history: [StoreState] = []
  /// The generation that is acknowledged at least.
  var generation: UInt64 = 0
  /// Where in `history` what this opening's journal shows begins, and that of the one before.
  var openings = (previous: 0, current: 0)
  /// Whether the disk has lied since the last opening, or ever: then it may have lost or damaged something.
  var hasLied = (lately: false, ever: false)
  var nextKey = 1
  var nextName = 1
  /// The fault that waits to happen.
  var armed = ""
  /// Images as somebody may have kept them, of the present store.
  var saved: [SavedImage] = []

  /// - Parameter unit: the only unit of the disks, in bytes; else it is chosen for each.
  public init(seed: UInt64, unit: Int? = nil) {
    self.seed = seed
    onlyUnit = unit
    random = SeededGenerator(seed: seed)
    verifier = Verifier(seed: seed ^ 0x5EED_0F_C0A5)
    guard let geometry = Geometry(blockSize: 4096, sectorCount: 8) else {
      preconditionFailure("within the limits")
    }
    self.geometry = geometry
  }

  /// At most `steps` steps; fewer where something is broken.
  public func run(steps: Int) -> SeedResult {
    tally.countWorkload()
    while step < steps, violation == nil {
      step += 1
      do {
        if core == nil, history.isEmpty { try newStore() } else { try takeStep() }
      } catch {
        report(error as? Violation ?? Violation(.misbehaviour, "\(error)"))
      }
      note(UInt64(disk.operations) &* 31 &+ UInt64(history.count))
    }
    disk.afterOperation = nil
    var total = tally
    total.add(verifier.tally)
    if let violation { total.count(violation) }
    return SeedResult(
      seed: seed, tally: total, failure: violation.map { ($0.at("step \(step)"), step) },
      trace: trace &* 31 &+ UInt64(total.states),
      log: (events.suffix(20) + [disk.logText(last: 40)]).joined(separator: "\n"))
  }

  func note(_ value: UInt64) { trace = (trace ^ value) &* 0x100_0000_01B3 }

  func report(_ violation: Violation) { if self.violation == nil { self.violation = violation } }

  var acknowledged: StoreState { plan[min(progress(), plan.count - 1)] }

  // MARK: What may be found

  /// The state acknowledged last, and the one after the commit in flight.
  var possible: [StoreState] {
    let done = min(progress(), plan.count - 1)
    return Array(plan[done...min(done + 1, plan.count - 1)])
  }

  func expectation() -> Expectation {
    let done = min(progress(), plan.count - 1)
    guard hasLied.ever else {
      return Expectation(states: possible, past: history + plan[...done], generation: generation)
    }
    let since = hasLied.lately ? history[openings.previous...] + plan[...done] : []
    return Expectation(
      kind: .lyingDisk, states: since + possible, past: history, refusals: Expectation.lies, mayRefuseEntries: true)
  }

  /// Does something that leads through the states of `plan`; on return the last of them is acknowledged. Where it throws,
  /// those that were acknowledged are, and one more may be found.
  func perform(_ plan: [StoreState], progress: @escaping () -> Int = { 0 }, _ work: () throws -> Void) throws {
    self.plan = plan
    self.progress = progress
    try work()
    history.append(contentsOf: plan.dropFirst())
    self.plan = [plan[plan.count - 1]]
    self.progress = { 0 }
    if let volume = core?.volume { generation = volume.generation.value }
    cut(percent: 60)
  }

  /// With the chance given, crashes copies of the disk as it is now and judges them.
  func cut(percent: Int) {
    guard violation == nil, verifier.random.chance(percent) else { return }
    for _ in 0..<(verifier.random.chance(25) ? 3 : profile.copies) {
      let how = Thoroughness(cutsInRecovery: 2, using: &verifier.random)
      let crashed = verifier.crash(disk)
      if case .violation(let violation) = verifier.verify(crashed, expectation(), how) {
        return report(violation.at("cut after operation \(disk.operations)"))
      }
    }
  }

  func watchDisk() {
    disk.afterOperation = { [unowned self] _ in cut(percent: profile.cutPercent) }
  }
}
