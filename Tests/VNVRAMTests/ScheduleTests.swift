import ScheduleExplorer
import Testing

/// The NVRAM's calls in orders that seeds choose (Tests/README.md has what is explored): a hundred thousand schedules,
/// or a minute of them; under the thread sanitizer a thousand. Half are always the same; the others are new ones each
/// time.
@Suite struct ScheduleTests {
  private static let schedules: UInt64 = isSanitized ? 1000 : 100_000

  @Test func noOrderBreaksAPromise() throws {
    let start = ContinuousClock.now
    let known = try explore(0..<Self.schedules / 2, until: start + .seconds(30))
    let first = UInt64.random(in: 1_000_000..<1 << 40)
    let fresh = try explore(first..<first + Self.schedules - UInt64(known.schedules), until: start + .seconds(60))
    print("schedules of the fixed seeds:\n\(known.report)\nfrom seed \(first):\n\(fresh.report)")
    for result in [known, fresh] where result.schedules > 1000 {
      #expect(result.distinct > result.schedules / 10 * 9)
      let tally = result.tally
      for count in [
        tally.successes, tally.locks, tally.keysLost, tally.cancels, tally.deregistrations, tally.powerCuts,
        tally.checkpoints, tally.idle,
      ] {
        #expect(count > 0)
      }
      for failure in ["cancelled", "closed", "failedEarlier", "queueFull", "timedOut", "wouldDeadlock"] {
        #expect(tally.failures[failure] ?? 0 > 0, "\(failure)")
      }
    }
  }

  private func explore(_ seeds: Range<UInt64>, until deadline: ContinuousClock.Instant) throws -> Exploration {
    let result = try Explorer.explore(seeds: seeds, until: deadline, workers: 2)
    if let finding = result.finding {
      Issue.record(
        "\(finding.violation)\n\(finding.trace)\nreproduce with: vnvram-soak --schedules --seed \(finding.seed)")
    }
    return result
  }

  @Test func aSeedIsTheSameAgain() throws {
    var hashes: Set<UInt64> = []
    // Each run leaves the threads of a pool, and the thread sanitizer is slow with many.
    let seeds: Range<UInt64> = isSanitized ? 0..<5 : 0..<100
    for seed in seeds {
      let runs = try (0..<2).map { _ in try Explorer.run(seed: seed) }
      #expect(runs[0].hash == runs[1].hash)
      #expect(runs[0].trace() == runs[1].trace())
      hashes.insert(runs[0].hash)
    }
    #expect(hashes.count >= seeds.count / 10 * 9)
  }
}
