import ModelChecker
import Testing

/// A short run of what `make soak` does for long, always of the same seeds; and that a seed can be had again.
@Suite struct ModelCheckerTests {
  @Test(arguments: 0..<8)
  func noPromiseIsBroken(_ part: UInt64) {
    var tally = Tally()
    for seed in part * 1000..<part * 1000 + 2 {
      let result = Checker(seed: seed).run(steps: 60)
      tally.add(result.tally)
      if let failure = result.failure {
        Issue.record("\(failure.violation)\nreproduce with: vnvram-soak --seed \(seed) --steps \(failure.step)")
      }
    }
    #expect(tally.states > 100)
    print("model checker: \(tally.states) states")
  }

  @Test func aSeedIsTheSameAgain() {
    for seed in 1...3 as ClosedRange<UInt64> {
      let runs = (0..<2).map { _ in Checker(seed: seed).run(steps: 40) }
      #expect(runs[0].trace == runs[1].trace)
      #expect(runs[0].tally.report == runs[1].tally.report)
      // Fewer steps are the beginning of more.
      #expect(Checker(seed: seed).run(steps: 10).tally.states < runs[0].tally.states)
    }
  }
}
