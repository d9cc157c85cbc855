// Runs the model checker, or the explorer of schedules, for a time, on every core, and says what it did.
import ArgumentParser
import Glibc
import ModelChecker
import ScheduleExplorer
import Synchronization

#if VNVRAM_MUTANTS
  import SecureVolume
  import VNVRAM
#endif

struct SoakCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "vnvram-soak",
    abstract: "Random workloads and faults on a simulated disk, or random orders of threads, checked against a model.",
    discussion: """
      Each seed is a run of its own that anyone can have again. The first that breaks a promise ends the run with \
      status 1 and a line that reproduces it.

      Example: vnvram-soak --seconds 60
      Example: vnvram-soak --schedules --seconds 60
      """)

  @Flag(help: "Explore the orders of an NVRAM's threads, in place of faults of its disk.") var schedules = false
  @Option(help: "How long, in seconds.") var seconds = 600
  @Option(help: "The first seed; only this one where --steps is given or --seconds is not.") var seed: UInt64?
  @Option(help: "The most steps of a seed.") var steps: Int?
  @Option(help: "Threads; as many as there are processors unless given.") var jobs: Int?
  @Option(help: "The only unit of the disks, in bytes: 4096 to 65536.") var unit: Int?
  @Option(help: "Build with -D VNVRAM_MUTANTS: run with this fault, or `list` them.") var mutant: String?

  private static let stepsPerSeed = 80

  func run() throws {
    if let mutant { try choose(mutant) }
    if schedules { return try exploreSchedules() }
    let wasGivenTime = CommandLine.arguments.contains("--seconds")
    if let seed, steps != nil || !wasGivenTime {
      let result = Checker(seed: seed, unit: unit).run(steps: steps ?? Self.stepsPerSeed)
      print(result.tally.report)
      print("trace     \(String(result.trace, radix: 16))")
      if let failure = result.failure {
        print(result.log)
        try fail(result, failure)
      }
      return
    }
    let first = firstSeed
    let run = Run(firstSeed: first, unit: unit, steps: steps ?? Self.stepsPerSeed, seconds: seconds)
    print("seeds from \(first), for \(seconds) s")
    run.work(jobs: workers)
    print(run.report)
    if let (result, failure) = run.failure { try fail(result, failure) }
  }

  private var firstSeed: UInt64 { seed ?? UInt64.random(in: 0..<1_000_000) * 1_000_000 }
  private var workers: Int { jobs ?? max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))) }

  private func exploreSchedules() throws {
    TrapReport.install(suffix: mutant.map { " --mutant \($0)" } ?? "")
    if let seed, !CommandLine.arguments.contains("--seconds") {
      let outcome = try Explorer.run(seed: seed)
      print(outcome.trace())
      if let violation = outcome.violation {
        try fail(Exploration.Finding(seed: seed, violation: violation, trace: ""))
      }
      return
    }
    let first = firstSeed
    print("schedules from seed \(first), for \(seconds) s")
    let deadline = ContinuousClock.now + .seconds(seconds)
    let result = try Explorer.explore(seeds: first..<UInt64.max, until: deadline, workers: workers)
    print(result.report)
    if let finding = result.finding { try fail(finding) }
  }

  private func fail(_ finding: Exploration.Finding) throws {
    if !finding.trace.isEmpty { print(finding.trace) }
    print("FAILED: \(finding.violation)")
    let mutant = mutant.map { " --mutant \($0)" } ?? ""
    print("reproduce with: vnvram-soak --schedules --seed \(finding.seed)\(mutant)")
    throw ExitCode(1)
  }

  private func fail(_ result: SeedResult, _ failure: (violation: Violation, step: Int)) throws {
    print("FAILED: \(failure.violation)")
    let mutant = mutant.map { " --mutant \($0)" } ?? ""
    let unit = unit.map { " --unit \($0)" } ?? ""
    print("reproduce with: vnvram-soak --seed \(result.seed) --steps \(failure.step)\(unit)\(mutant)")
    throw ExitCode(1)
  }

  private func choose(_ name: String) throws {
    #if VNVRAM_MUTANTS
      let names = schedules ? ShellMutant.allCases.map(\.rawValue) : Mutant.allCases.map(\.rawValue)
      if name == "list" {
        for name in names { print(name) }
        throw ExitCode(0)
      }
      guard names.contains(name) else { throw ValidationError("no mutant \"\(name)\"; `list` names them") }
      if schedules {
        unsafe ShellMutant.chosen = ShellMutant(rawValue: name)
      } else {
        unsafe Mutant.chosen = Mutant(rawValue: name)
      }
    #else
      throw ValidationError("this build has no mutants; see Tests/README.md")
    #endif
  }
}
