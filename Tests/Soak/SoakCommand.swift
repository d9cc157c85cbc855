// Runs the model checker for a time, on every core, and says what it did.
import ArgumentParser
import Glibc
import ModelChecker
import Synchronization

#if VNVRAM_MUTANTS
  import SecureVolume
#endif

struct SoakCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "vnvram-soak",
    abstract: "Random workloads and faults on a simulated disk, checked against a model.",
    discussion: """
      Each seed is a run of its own that anyone can have again. The first that breaks a promise ends the run with \
      status 1 and a line that reproduces it.

      Example: vnvram-soak --seconds 60
      """)

  @Option(help: "How long, in seconds.") var seconds = 600
  @Option(help: "The first seed; only this one where --steps is given or --seconds is not.") var seed: UInt64?
  @Option(help: "The most steps of a seed.") var steps: Int?
  @Option(help: "Threads; as many as there are processors unless given.") var jobs: Int?
  @Option(help: "The only unit of the disks, in bytes: 4096 to 65536.") var unit: Int?
  @Option(help: "Build with -D VNVRAM_MUTANTS: run with this fault, or `list` them.") var mutant: String?

  private static let stepsPerSeed = 80

  func run() throws {
    if let mutant { try choose(mutant) }
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
    let first = seed ?? UInt64.random(in: 0..<1_000_000) * 1_000_000
    let run = Run(firstSeed: first, unit: unit, steps: steps ?? Self.stepsPerSeed, seconds: seconds)
    print("seeds from \(first), for \(seconds) s")
    run.work(jobs: jobs ?? max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))))
    print(run.report)
    if let (result, failure) = run.failure { try fail(result, failure) }
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
      if name == "list" {
        for mutant in Mutant.allCases { print(mutant.rawValue) }
        throw ExitCode(0)
      }
      guard let mutant = Mutant(rawValue: name) else {
        throw ValidationError("no mutant \"\(name)\"; `list` names them")
      }
      unsafe Mutant.chosen = mutant
    #else
      throw ValidationError("this build has no mutants; see Tests/README.md")
    #endif
  }
}
