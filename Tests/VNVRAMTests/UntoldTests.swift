import Audit
import BlobStore
import BlockIO
import Foundation
import Primitives
import Testing

@testable import VNVRAM

/// What waits behind a completion that blocks, and who comes meanwhile.
struct UntoldTests {
  private let place: TestPlace
  private static let entries: [String: UInt64] = ["state": 4096, "vars": 10_000]

  init() throws {
    place = try TestPlace()
    try place.makeStore(Self.entries.merging(["device": 64]) { $1 })
    try place.bring("a", 1)
  }

  private func started(_ door: SyncDoor = SyncDoor(), maximumRequests: Int = 1024) throws -> NVRAM {
    var configuration = NVRAMConfiguration()
    configuration.maximumRequests = maximumRequests
    let device = try DeviceWithDoor(path: place.image, door)
    let nvram = NVRAM(device, audit: AuditLog(.none), configuration: configuration)
    for (name, capacity) in Self.entries { try nvram.register(entry: EntryName(name), capacity: ByteCount(capacity)) }
    try nvram.start(failOnEncryptedDrive: true)
    return nvram
  }

  /// Has a completion block until the latch is opened, and then do something.
  private func block(_ nvram: NVRAM, until goOn: Latch, _ then: @escaping @Sendable () -> Void = {}) throws {
    let called = Latch()
    try nvram.submit("state", content(1)) { _ in
      called.open()
      goOn.wait()
      then()
    }
    try #require(called.wait())
  }

  private func outboxCount(_ nvram: NVRAM) -> Int {
    var (outbox, count) = (nvram.machine.withLock { $0.outbox }, 0)
    while outbox.popFirst() != nil { count += 1 }
    return count
  }

  @Test("processRequests that times out over and over behind a blocked completion leaves nothing behind")
  func timedOut() throws {
    let nvram = try started(maximumRequests: 64)
    let goOn = Latch()
    try block(nvram, until: goOn)
    let before = nvram.machine.withLock { ($0.outstanding, $0.heldBytes) }
    let processing = Running {
      (0..<2000).allSatisfy { number in
        failure { try nvram.processRequests(deadline: .microseconds(number % 50)) }?.code == .timedOut
      }
    }
    try #require(processing.ends())
    #expect(try processing.wait())
    #expect(outboxCount(nvram) == 0)
    let after = nvram.machine.withLock { ($0.outstanding, $0.heldBytes) }
    #expect(before == after && nvram.machine.withLock { $0.queue.isEmpty })
    let told = Recorder<NVRAMError.Code?>()
    for number in 0..<60 { try nvram.submit("vars", content(number)) { told.add($0.error) } }
    goOn.open()
    try nvram.processRequests()
    #expect(told.all == [NVRAMError.Code?](repeating: nil, count: 60))
    #expect(outboxCount(nvram) == 0 && nvram.machine.withLock { $0.outstanding == 0 && $0.heldBytes == 0 })
    #expect(nvram.closes())
  }

  @Test("threads write while as many requests as may wait to be told, and the store is busy")
  func writersBehindFullBounds() throws {
    let door = SyncDoor()
    let nvram = try started(door, maximumRequests: 8)
    let goOn = Latch()
    try block(nvram, until: goOn)
    let told = Recorder<NVRAMError.Code?>()
    var accepted = 0
    while accepted < 20, failure({ try nvram.submit("vars", content(1)) { told.add($0.error) } }) == nil {
      accepted += 1
    }
    #expect(accepted == 8)
    #expect(eventually { outboxCount(nvram) == accepted }, "all have been served, and none was told")

    let isSyncing = door.close()
    // The first has the store; the others queue.
    let first = Running { try nvram.replace("state", content(2)) }
    try #require(isSyncing.wait())
    let others = (3..<6).map { number in Running { try nvram.replace("state", content(number)) } }
    #expect(eventually { nvram.machine.withLock { $0.queue.count } == 3 })
    #expect(failure { try nvram.submit("vars", content(1)) { _ in } }?.code == .queueFull)
    door.open()
    for writer in [first] + others {
      try #require(writer.ends())
      #expect(failure { try writer.wait() } == nil)
    }
    goOn.open()
    #expect(nvram.closes())
    #expect(told.all == [NVRAMError.Code?](repeating: nil, count: accepted))
  }

  @Test("an observer is told of nothing that happened before it was added, though it is told later")
  func addedLater() throws {
    let nvram = try started()
    let goOn = Latch()
    let (first, second) = (Recorder<NVRAMEvent>(), Recorder<NVRAMEvent>())
    nvram.observe { first.add($0) }
    try block(nvram, until: goOn)
    try nvram.lock()
    nvram.observe { second.add($0) }
    try nvram.unlock(with: TestPlace.key(1))
    goOn.open()
    #expect(eventually { second.all.count >= 1 })
    #expect(nvram.closes())
    #expect(first.states == ["locked", "running", "closed"])
    #expect(second.states == ["running", "closed"])
  }

  @Test("a read that was served and not told yet isn't told with a callback that is deregistered meanwhile")
  func deregistered() throws {
    let nvram = try started()
    let reads = Recorder<NVRAMOperation>()
    try nvram.register(entry: "device") { (operation, visitor, _) throws(VisitorError) in
      reads.add(operation)
      var number: UInt32 = 7
      try visitor.visit("number", &number)
    }
    try nvram.write("device")
    let goOn = Latch()
    let outcomes = Recorder<NVRAMError.Code?>()
    try block(nvram, until: goOn) { outcomes.add(failure { try nvram.deregister(entry: "device") }?.code) }
    try nvram.read("device") { outcomes.add($0.error) }
    #expect(eventually { outboxCount(nvram) == 1 })
    goOn.open()
    try nvram.processRequests()
    #expect(outcomes.all == [nil, .cancelled])
    #expect(reads.all == [.format, .write])
    #expect(nvram.closes())
  }
}
