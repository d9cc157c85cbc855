import BlobStore
import BlockIO
import Foundation
import Keyring
import Primitives
import SecureVolume
import Testing

@testable import VNVRAM

/// Requests that wait: in order, bounded, and each ending exactly once.
struct QueueTests {
  let place: TestPlace
  static let entries: [String: UInt64] = ["state": 4096, "vars": 10_000]
  typealias Outcome = (Int, NVRAMError.Code?)

  init() throws {
    place = try TestPlace()
    try place.makeStore(Self.entries)
  }

  private func pending(_ change: (inout NVRAMConfiguration) -> Void = { _ in }) throws -> NVRAM {
    let nvram = try place.nvram(Self.entries, change)
    try nvram.start(failOnEncryptedDrive: false)
    return nvram
  }

  @Test func tenWritesWaitForTheKey() throws {
    let nvram = try pending()
    let outcomes = Recorder<Outcome>()
    for i in 0..<10 {
      try nvram.submit("state", content(i)) { outcomes.add((i, $0.error)) }
    }
    let before = try place.bytes()
    usleep(50_000)
    #expect(outcomes.all.isEmpty)
    #expect(try place.bytes() == before)
    try place.bring("a", 1)
    try nvram.processRequests()
    #expect(outcomes.all.map(\.0) == Array(0..<10))
    #expect(outcomes.all.allSatisfy { $0.1 == nil })
    #expect(try nvram.readContent("state") == content(9))
    try nvram.close()
    #expect(outcomes.all.count == 10)
    #expect(try place.content("state", capacity: 4096) == content(9))
  }

  @Test func aWrongKeyFirstThenTheRightOne() throws {
    let nvram = try pending()
    defer { try? nvram.close() }
    let outcomes = Recorder<Outcome>()
    try nvram.submit("state", content(1)) { outcomes.add((1, $0.error)) }
    try place.bring("a", 9)
    #expect(eventually { nvram.state == .keyPending(WantedKeys(wrong: [place.name("a")])) })
    #expect(outcomes.all.isEmpty)
    try place.bring("a", 1)
    try nvram.processRequests()
    #expect(outcomes.all.map(\.0) == [1])
    #expect(try nvram.readContent("state") == content(1))
  }

  @Test func oneThreadWaitsAndAnotherBringsTheKey() throws {
    let nvram = try pending()
    let place = self.place
    let waiter = Running {
      try nvram.replace("state", content(5))
      return try nvram.readContent("state")
    }
    let bringer = Running {
      usleep(20_000)
      try place.bring("a", 1)
    }
    try bringer.wait()
    #expect(try waiter.wait() == content(5))
    try nvram.close()
    #expect(try place.content("state", capacity: 4096) == content(5))
  }

  @Test func theDeadlinePasses() throws {
    let nvram = try pending()
    defer { try? nvram.close() }
    let error = try #require(failure { try nvram.replace("state", content(1), deadline: .milliseconds(10)) })
    #expect(error.code == .timedOut && error.status == .timedOut)
    #expect(error.keys.missing == [place.name("a")])
    #expect(error.description.contains(place.name("a")))
    let outcomes = Recorder<Outcome>()
    try nvram.submit("state", content(2), deadline: .milliseconds(20)) { outcomes.add((2, $0.error)) }
    try nvram.submit("state", content(3), deadline: .milliseconds(10)) { outcomes.add((3, $0.error)) }
    try nvram.submit("state", content(4)) { outcomes.add((4, $0.error)) }
    #expect(eventually { outcomes.all.count == 2 })
    #expect(outcomes.all.allSatisfy { $0.1 == .timedOut })
    #expect(failure { try nvram.processRequests(deadline: .milliseconds(10)) }?.code == .timedOut)
    // The one without a deadline is done, and only that one.
    try place.bring("a", 1)
    try nvram.processRequests()
    #expect(outcomes.all.map(\.0).last == 4 && outcomes.all.last?.1 == nil && outcomes.all.count == 3)
    #expect(try nvram.readContent("state") == content(4))
  }

  @Test func closedWithRequestsQueued() throws {
    let before = try place.bytes()
    let nvram = try pending()
    let outcomes = Recorder<Outcome>()
    for i in 0..<5 { try nvram.submit("state", content(i)) { outcomes.add((i, $0.error)) } }
    let waiter = Running { failure { try nvram.replace("state", content(9)) }?.code }
    let reader = Running { failure { try nvram.readContent("state") }?.code }
    usleep(30_000)
    try nvram.close()
    // All completions have been called when close returns.
    #expect(outcomes.all.map(\.0) == Array(0..<5))
    #expect(outcomes.all.allSatisfy { $0.1 == .closed })
    #expect(try waiter.wait() == .closed)
    #expect(try reader.wait() == .closed)
    #expect(try place.bytes() == before)
  }

  @Test func calledOff() throws {
    let nvram = try pending()
    defer { try? nvram.close() }
    let outcomes = Recorder<Outcome>()
    var ids: [NVRAMRequestID] = []
    for i in 0..<4 {
      ids.append(try nvram.submit("state", content(i)) { outcomes.add((i, $0.error)) })
    }
    #expect(nvram.cancel(ids[2]))
    #expect(!nvram.cancel(ids[2]))
    #expect(nvram.cancelAll() == 3)
    #expect(nvram.cancelAll() == 0)
    #expect(eventually { outcomes.all.count == 4 })
    #expect(outcomes.all.map(\.0) == [2, 0, 1, 3])
    #expect(outcomes.all.allSatisfy { $0.1 == .cancelled })
    try place.bring("a", 1)
    try nvram.processRequests()
    #expect(try nvram.readContent("state") == [])
    #expect(outcomes.all.count == 4)
  }

  @Test func isBoundedInNumberAndBytes() throws {
    let nvram = try pending {
      $0.maximumRequests = 3
      $0.maximumRequestBytes = 1000
    }
    defer { try? nvram.close() }
    let outcomes = Recorder<Outcome>()
    try nvram.submit("state", content(1, count: 600)) { outcomes.add((1, $0.error)) }
    let tooManyBytes = failure { try nvram.submit("state", content(2, count: 600)) { outcomes.add((2, $0.error)) } }
    #expect(tooManyBytes?.code == .queueFull && tooManyBytes?.status == .noSpace)
    try nvram.submit("state", content(3, count: 1)) { outcomes.add((3, $0.error)) }
    try nvram.submit("state", content(4, count: 1)) { outcomes.add((4, $0.error)) }
    #expect(failure { try nvram.replace("state", content(5, count: 1)) }?.code == .queueFull)
    try place.bring("a", 1)
    try nvram.processRequests()
    #expect(outcomes.all.map(\.0) == [1, 3, 4])
    // While it runs, what is larger than the queue waits for its turn instead.
    try nvram.replace("vars", content(6, count: 9000))
    #expect(try nvram.readContent("vars") == content(6, count: 9000))
  }

  @Test func whatIsLargerThanRegisteredIsRefusedAtOnce() throws {
    let nvram = try pending()
    defer { try? nvram.close() }
    #expect(failure { try nvram.replace("state", content(1, count: 4097)) }?.code == .tooLarge)
    let bytes = content(1, count: 10)
    #expect(failure { try nvram.writeContent("state", at: ByteOffset(4090), bytes.span) }?.code == .tooLarge)
    #expect(failure { try nvram.writeContent("state", at: ByteOffset(UInt64.max), bytes.span) }?.code == .tooLarge)
    #expect(failure { try nvram.replace("other", content(1)) }?.code == .notRegistered)
  }

  // MARK: Entries and the image

  @Test func anEntryLargerThanItsPlaceFailsAlone() throws {
    let nvram = try place.nvram(["state": 5000, "vars": 10_000, "extra": 10])
    let events = Recorder<NVRAMEvent>()
    nvram.observe { events.add($0) }
    try nvram.start(failOnEncryptedDrive: false)
    let outcomes = Recorder<Outcome>()
    for (i, entry) in (["state", "vars", "extra", "vars"] as [EntryName]).enumerated() {
      try nvram.submit(entry, content(i, count: 5)) { outcomes.add((i, $0.error)) }
    }
    try place.bring("a", 1)
    try nvram.processRequests()
    #expect(outcomes.all.map(\.0) == [0, 1, 2, 3])
    #expect(outcomes.all.map(\.1) == [.entryTooSmall, nil, .entryMissing, nil])
    #expect(failure { try nvram.readContent("state") }?.code == .entryTooSmall)
    #expect(failure { try nvram.readContent("extra") }?.status == .notFound)
    #expect(try nvram.readContent("vars") == content(3, count: 5))
    let mismatches = [
      EntryMismatch(name: "extra", registered: 10, inImage: nil),
      EntryMismatch(name: "state", registered: 5000, inImage: 4096),
    ]
    #expect(events.all.contains(.mismatched(mismatches)))
    try nvram.close()
    #expect(try place.content("state", capacity: 4096) == [])
  }

  @Test func registersWhileItWaits() throws {
    let nvram = try place.nvram([:])
    defer { try? nvram.close() }
    try nvram.start(failOnEncryptedDrive: false)
    #expect(failure { try nvram.readContent("state") }?.code == .notRegistered)
    try nvram.register(entry: "state", capacity: ByteCount(UInt64(4096)))
    #expect(failure { try nvram.register(entry: "state", capacity: ByteCount(UInt64(1))) }?.code == .alreadyRegistered)
    let outcomes = Recorder<Outcome>()
    try nvram.submit("state", content(1)) { outcomes.add((1, $0.error)) }
    try nvram.submit("state", content(2)) { outcomes.add((2, $0.error)) }
    try nvram.deregister(entry: "state")
    // No callback of a device that has gone is still to come.
    #expect(outcomes.all.map(\.1) == [.cancelled, .cancelled])
    #expect(failure { try nvram.deregister(entry: "state") }?.code == .notRegistered)
    #expect(failure { try nvram.replace("state", content(1)) }?.code == .notRegistered)
  }

  // MARK: Completions

  @Test func completionsMayAskForMore() throws {
    try place.bring("a", 1)
    let nvram = try place.nvram(Self.entries)
    try nvram.start(failOnEncryptedDrive: true)
    let outcomes = Recorder<Outcome>()
    try nvram.submit("state", content(1)) { first in
      outcomes.add((1, first.error))
      // Waiting is possible while it runs, and so is not waiting.
      outcomes.add((2, failure { try nvram.replace("state", content(2)) }?.code))
      outcomes.add((3, failure { try nvram.submit("state", content(3)) { outcomes.add((4, $0.error)) } }?.code))
    }
    try nvram.processRequests()
    #expect(eventually { outcomes.all.count == 4 })
    #expect(outcomes.all.map(\.0) == [1, 2, 3, 4] && outcomes.all.allSatisfy { $0.1 == nil })
    #expect(try nvram.readContent("state") == content(3))
    let closing = Recorder<Outcome>()
    try nvram.submit("state", content(4)) { _ in closing.add((5, failure { try nvram.close() }?.code)) }
    #expect(eventually { closing.all.count == 1 && nvram.state == .closed })
    #expect(closing.all[0].1 == nil)
  }

  @Test func aCompletionCannotWaitForAKey() throws {
    let nvram = try pending()
    defer { try? nvram.close() }
    let outcomes = Recorder<Outcome>()
    try nvram.submit("state", content(1), deadline: .milliseconds(1)) { _ in
      outcomes.add((1, failure { try nvram.replace("state", content(2)) }?.code))
    }
    #expect(eventually { outcomes.all.count == 1 })
    #expect(outcomes.all[0].1 == .wouldDeadlock)
  }

  @Test func readsFollowTheWritesBeforeThem() throws {
    let nvram = try pending()
    defer { try? nvram.close() }
    let seen = Recorder<[UInt8]>()
    for i in 1...6 {
      try nvram.submit("state", content(i)) { _ in }
      try nvram.readContent("state") { seen.add((try? $0.get()) ?? []) }
    }
    try place.bring("a", 1)
    try nvram.processRequests()
    #expect(seen.all == (1...6).map { content($0) })
  }

  @Test func writesAndReadsInParts() throws {
    try place.bring("a", 1)
    let nvram = try place.nvram(Self.entries)
    defer { try? nvram.close() }
    try nvram.start(failOnEncryptedDrive: true)
    try nvram.replace("vars", content(1, count: 5000))
    try nvram.writeContent("vars", at: ByteOffset(4990), content(2, count: 20).span)
    var part = ByteBuffer(count: 100)
    let count = try nvram.readContent("vars", at: ByteOffset(4980), into: part.mutableSpan)
    #expect(count == 30)
    let read = part.span(0..<30).array
    #expect(read == content(1, count: 10) + content(2, count: 20))
    #expect(try nvram.readContent("vars", at: ByteOffset(6000), into: part.mutableSpan) == 0)
  }
}

extension Result<Void, NVRAMError> {
  var error: NVRAMError.Code? { if case .failure(let error) = self { error.code } else { nil } }
}
