import Keyring
import Primitives
import Testing

@testable import VNVRAM

/// When keys are looked for and asked for, by the clock's hands alone.
struct KeyScheduleTests {
  private var configuration = NVRAMConfiguration()

  init() { configuration.asksForKeys = true }

  private static func at(_ milliseconds: UInt64) -> Instant {
    Instant(nanoseconds: 1_000_000_000_000 + milliseconds * 1_000_000)
  }

  @Test func theFirstPokeActsAtOnceAndTheNextWhenItIsTime() {
    var watch = KeyWatch(configuration)
    watch.startSearch(now: Self.at(0))
    #expect(!watch.isDue(now: Self.at(0)))
    watch.hurry()
    #expect(watch.isDue(now: Self.at(0)) && watch.mayTry(now: Self.at(0)))
    watch.tried(now: Self.at(0))
    watch.searched(now: Self.at(0))
    for _ in 0..<200 { watch.hurry() }
    #expect(!watch.isDue(now: Self.at(249)) && watch.next == Self.at(250))
    #expect(watch.isDue(now: Self.at(250)))
    watch.tried(now: Self.at(250))
    watch.searched(now: Self.at(250))
    #expect(!watch.isUrgent && watch.next != Self.at(500))
  }

  @Test func oneInquiryAtATimeAndNoneTooSoon() {
    var inquiry = KeyInquiry(configuration)
    inquiry.want([KeyUse(store: "s", name: "a")])
    #expect(inquiry.isDue(now: Self.at(0)))
    inquiry.begin()
    for _ in 0..<200 { inquiry.hurry() }
    #expect(inquiry.next == nil, "one is under way")
    inquiry.end([], now: Self.at(10))
    #expect(!inquiry.isDue(now: Self.at(1009)) && inquiry.isDue(now: Self.at(1010)), "the pokes meanwhile count as one")
    inquiry.begin()
    inquiry.end([], now: Self.at(1020))
    for _ in 0..<200 { inquiry.hurry() }
    #expect(!inquiry.isDue(now: Self.at(2019)) && inquiry.isDue(now: Self.at(2020)))
    #expect(inquiry.open == ["a"], "who waits for the answer waits for this one")
  }

  @Test func withoutAPokeItIsAskedLessAndLessOften() {
    var inquiry = KeyInquiry(configuration)
    inquiry.want([KeyUse(store: "s", name: "a")])
    var now: UInt64 = 0
    for expected in [1000, 2000, 4000, 8000] as [UInt64] {
      #expect(inquiry.isDue(now: Self.at(now)))
      inquiry.begin()
      inquiry.end([], now: Self.at(now))
      #expect(inquiry.next == Self.at(now + expected))
      now += expected
    }
  }
}
