import Audit
import BlobStore
import Foundation
import Keyring
import Primitives
import Testing

@testable import VNVRAM

/// A completion or an observer that blocks holds up other ones, and nothing else; and what waits to be told is bounded.
struct BlockedCompletionTests {
  private let place: TestPlace
  private static let large: UInt64 = 1 << 20
  private static let entries: [String: UInt64] = ["state": 65536, "large": large]

  init() throws {
    place = try TestPlace()
    try place.makeStore(Self.entries)
  }

  /// A store that runs, with a completion that blocks until `goOn` is opened.
  private func blocked(_ goOn: Latch, _ change: (inout NVRAMConfiguration) -> Void = { _ in }) throws -> NVRAM {
    let nvram = try place.nvram(Self.entries, audit: AuditLog(.none), change)
    try nvram.start(failOnEncryptedDrive: true)
    let called = Latch()
    try nvram.submit("state", content(1)) { _ in
      called.open()
      goOn.wait()
    }
    try #require(called.wait())
    return nvram
  }

  @Test("a revoked key locks the store while a completion blocks")
  func revoked() throws {
    let serial = try place.bring("a", 1)
    let goOn = Latch()
    let nvram = try blocked(goOn)
    try Keyring.revoke(serial)
    #expect(eventually { nvram.isLocked })
    goOn.open()
    #expect(nvram.closes())
  }

  @Test("processRequests times out while a completion blocks")
  func processing() throws {
    try place.bring("a", 1)
    let goOn = Latch()
    let nvram = try blocked(goOn)
    let processing = Running { failure { try nvram.processRequests(deadline: .milliseconds(20)) }?.code }
    #expect(processing.ends())
    goOn.open()
    #expect(try processing.wait() == .timedOut)
    try nvram.processRequests()
    #expect(nvram.closes())
  }

  @Test("waiting calls, locking and unlocking go on while a completion blocks")
  func waitingCalls() throws {
    try place.bring("a", 1)
    let goOn = Latch()
    let nvram = try blocked(goOn)
    let calls = Running {
      for round in 0..<5 {
        try nvram.replace("state", content(round))
        guard try nvram.readContent("state") == content(round) else { return false }
        try nvram.lock()
        let late = failure { try nvram.replace("state", content(9), deadline: .milliseconds(10)) }
        guard late?.code == .timedOut else { return false }
        nvram.poke()
        guard eventually({ nvram.state == .running }) else { return false }
      }
      return true
    }
    #expect(calls.ends())
    goOn.open()
    #expect(try calls.wait())
    #expect(nvram.closes())
  }

  @Test("a second close returns when the first has")
  func closedTwice() throws {
    try place.bring("a", 1)
    let goOn = Latch()
    let nvram = try blocked(goOn)
    let first = Running { try nvram.close() }
    #expect(eventually { failure { try nvram.register(entry: "other", capacity: ByteCount(1)) }?.code == .closed })
    let second = Running { try nvram.close() }
    usleep(50_000)
    #expect(!first.hasEnded, "a completion is being called")
    #expect(!second.hasEnded, "the first has not returned")
    goOn.open()
    #expect(first.ends())
    #expect(second.ends())
  }

  // MARK: Bounds

  /// How many of some requests are accepted while a completion blocks, each served before the next is made.
  private func accepted(_ nvram: NVRAM, ofAtMost count: Int, _ submit: () throws -> Void) throws -> Int {
    for number in 0..<count {
      if let error = failure({ try submit() }) {
        #expect(error.code == .queueFull)
        return number
      }
      // Whoever waits is served after what was asked before.
      let waiter = Running { _ = try? nvram.readContent("state", deadline: .seconds(10)) as [UInt8] }
      try #require(waiter.ends())
    }
    return count
  }

  @Test("what completions wait to be told of is bounded in number")
  func requests() throws {
    try place.bring("a", 1)
    let goOn = Latch()
    let nvram = try blocked(goOn) { $0.maximumRequests = 10 }
    let told = Recorder<Int>()
    let count = try accepted(nvram, ofAtMost: 40) { try nvram.submit("state", content(1)) { _ in told.add(1) } }
    // The one that is being called may count or not.
    #expect(count >= 9 && count <= 10)
    goOn.open()
    #expect(nvram.closes())
    #expect(told.all.count == count)
  }

  @Test("what asynchronous writes hold is bounded until their completions are called")
  func writes() throws {
    try place.bring("a", 1)
    let goOn = Latch()
    let nvram = try blocked(goOn) { $0.maximumRequestBytes = 16 * 65536 }
    let bytes = content(1, count: 65536)
    let count = try accepted(nvram, ofAtMost: 64) { try nvram.submit("state", bytes) { _ in } }
    #expect(count >= 15 && count <= 16)
    goOn.open()
    #expect(nvram.closes())
  }

  @Test("what asynchronous reads will hold is bounded, until their completions are called")
  func reads() throws {
    try place.bring("a", 1)
    let goOn = Latch()
    let nvram = try blocked(goOn) { $0.maximumRequestBytes = 4 * Int(Self.large) }
    let told = Recorder<Int>()
    let count = try accepted(nvram, ofAtMost: 16) {
      try nvram.readContent("large") { told.add((try? $0.get().count) ?? -1) }
    }
    #expect(count >= 3 && count <= 4)
    goOn.open()
    #expect(nvram.closes())
    #expect(told.all == [Int](repeating: 0, count: count))
  }

  @Test("what asynchronous reads will hold is bounded while a key is missing")
  func readsWithoutAKey() throws {
    let nvram = try place.nvram(Self.entries, audit: AuditLog(.none)) { $0.maximumRequestBytes = 4 * Int(Self.large) }
    try nvram.start(failOnEncryptedDrive: false)
    var count = 0
    while count < 16, failure({ try nvram.readContent("large") { _ in } }) == nil { count += 1 }
    #expect(count == 4)
    #expect(nvram.closes())
  }

  @Test("an entry that is larger than the bound is read and written all the same, one request at a time")
  func largerThanTheBound() throws {
    try place.bring("a", 1)
    let goOn = Latch()
    let nvram = try blocked(goOn) { $0.maximumRequestBytes = Int(Self.large) / 4 }
    let told = Recorder<Int>()
    let count = try accepted(nvram, ofAtMost: 4) {
      try nvram.readContent("large") { told.add((try? $0.get().count) ?? -1) }
    }
    #expect(count == 1)
    goOn.open()
    #expect(nvram.closes())
    #expect(told.all == [0])
  }

  @Test("the oldest events are left out while an observer blocks, and the newest state is told")
  func events() throws {
    try place.bring("a", 1)
    let (called, goOn) = (Latch(), Latch())
    let told = Recorder<NVRAMEvent>()
    let nvram = try place.nvram(Self.entries, audit: AuditLog(.none))
    nvram.observe {
      told.add($0)
      called.open()
      goOn.wait()
    }
    try nvram.start(failOnEncryptedDrive: true)
    try #require(called.wait())
    let cycles = Running {
      for _ in 0..<100 {
        try nvram.lock()
        try nvram.unlock(with: TestPlace.key(1))
      }
      try nvram.lock()
    }
    #expect(cycles.ends())
    goOn.open()
    #expect(eventually { told.states.last == "locked" })
    // Those that wait, and the one that was told already.
    #expect(told.all.count <= 65)
    #expect(nvram.closes())
  }
}
