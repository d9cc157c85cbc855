import Testing

@testable import VNVRAM

/// Whether it is worth while to wait for other writers, by the clock's hands alone.
struct GatheringTests {
  /// Microseconds.
  private static func at(_ microseconds: UInt64) -> Instant {
    Instant(nanoseconds: 1_000_000_000_000 + microseconds * 1000)
  }

  /// A commit of 100 µs that ends at `time`, with so many writers.
  private func commit(_ gathering: inout Gathering, _ served: Int, waiting: Int = 0, at time: UInt64) {
    gathering.noteServed(served, waiting: waiting, from: Self.at(time - 100), to: Self.at(time))
  }

  @Test("a lone writer never waits")
  func alone() {
    var gathering = Gathering()
    #expect(!gathering.isWorthIt(with: 1, now: Self.at(0)))
    for time in stride(from: 1000 as UInt64, to: 10_000, by: 110) {
      commit(&gathering, 1, at: time)
      for later in 0..<120 as Range<UInt64> { #expect(!gathering.isWorthIt(with: 1, now: Self.at(time + later))) }
    }
  }

  @Test("as many are waited for as were served or waited last")
  func expected() {
    var gathering = Gathering()
    commit(&gathering, 1, waiting: 7, at: 1000)
    #expect(gathering.isWorthIt(with: 1, now: Self.at(1000)) && gathering.isWorthIt(with: 7, now: Self.at(1000)))
    #expect(!gathering.isWorthIt(with: 8, now: Self.at(1000)))
    commit(&gathering, 3, waiting: 1, at: 2000)
    #expect(gathering.isWorthIt(with: 3, now: Self.at(2000)) && !gathering.isWorthIt(with: 4, now: Self.at(2000)))
    // What nobody waited for tells nothing of writers.
    commit(&gathering, 0, waiting: 9, at: 2010)
    #expect(!gathering.isWorthIt(with: 4, now: Self.at(2010)))
  }

  @Test("it is given up after half the time that a commit took, and after a millisecond at most")
  func time() {
    var gathering = Gathering()
    commit(&gathering, 2, at: 1000)
    #expect(gathering.isWorthIt(with: 1, now: Self.at(1049)) && !gathering.isWorthIt(with: 1, now: Self.at(1050)))
    gathering.begin()
    #expect(gathering.until == Self.at(1050))
    gathering.stop(with: 2)
    #expect(gathering.until == nil)
    gathering.noteServed(2, waiting: 0, from: Self.at(0), to: Self.at(100_000))
    #expect(gathering.isWorthIt(with: 1, now: Self.at(100_999)))
    #expect(!gathering.isWorthIt(with: 1, now: Self.at(101_000)))
  }

  @Test("who has no time for it doesn't wait")
  func deadlines() {
    var gathering = Gathering()
    commit(&gathering, 2, at: 1000)
    #expect(!gathering.isWorthIt(with: 1, now: Self.at(1000), until: Self.at(1050)))
    #expect(gathering.isWorthIt(with: 1, now: Self.at(1000), until: Self.at(1051)))
  }

  /// How many commits after a miss don't gather.
  private func pause(_ gathering: inout Gathering, _ time: inout UInt64) -> Int {
    var count = 0
    while !gathering.isWorthIt(with: 1, now: Self.at(time)), count < 5000 {
      time += 1000
      commit(&gathering, 2, at: time)
      count += 1
    }
    return count
  }

  @Test("after a miss the next commits don't gather, ever more of them up to a bound, and after a success few again")
  func backsOff() {
    var gathering = Gathering()
    var time: UInt64 = 1000
    commit(&gathering, 2, at: time)
    var pauses: [Int] = []
    for _ in 0..<14 {
      gathering.begin()
      gathering.stop(with: 1)
      #expect(gathering.until == nil)
      pauses.append(pause(&gathering, &time))
    }
    #expect(zip(pauses, pauses.dropFirst()).allSatisfy { $0 <= $1 } && pauses[0] >= 1 && pauses[1] > pauses[0])
    #expect(pauses.last == 1024 && pauses[pauses.count - 2] == 1024)
    gathering.begin()
    gathering.stop(with: 2)
    #expect(pause(&gathering, &time) == 0)
    gathering.begin()
    gathering.stop(with: 1)
    #expect(pause(&gathering, &time) == pauses[0])
  }

  @Test("a queue that is served without anybody gathering is no miss")
  func noMiss() {
    var gathering = Gathering()
    commit(&gathering, 2, at: 1000)
    gathering.stop(with: 1)
    #expect(gathering.isWorthIt(with: 1, now: Self.at(1000)))
  }
}
