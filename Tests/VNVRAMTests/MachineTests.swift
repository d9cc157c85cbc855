import BlobStore
import BlockIO
import Primitives
import StorageSimulation
import Testing

@testable import VNVRAM

/// The order of turns, as transitions of the machine alone: no thread and no clock.
struct MachineTests {
  private static let now = Instant(nanoseconds: 1_000_000)
  private var machine: Machine

  /// A store that runs, with one entry; nothing of it is opened.
  init() throws {
    let disk = SharedDisk(SimulatedDisk(size: ByteCount(UInt64(65536))))
    machine = Machine(Store(disk, nil), NVRAMConfiguration(), .system)
    try machine.register(EntrySpecification(name: "state", capacity: ByteCount(UInt64(64))), nil)
    machine.phase = .running(nil)
  }

  private func request(waiting: Bool) -> Request {
    let request = Request(.replace)
    if waiting { request.parker = Parker(.system) } else { request.completion = { _ in } }
    return request
  }

  private mutating func enqueue(waiting: Bool) throws -> Request {
    let request = request(waiting: waiting)
    try machine.enqueue(request, "state", by: 0)
    return request
  }

  private mutating func giveBack(_ store: Store, ending batch: [Request] = []) {
    for request in batch { request.settle(nil) }
    machine.end(batch)
    machine.giveBack(store, StoreCondition())
  }

  @Test("who claims the store and who waits in the queue take turns, however many there are of either")
  mutating func turns() throws {
    let claims = (0..<3).map { _ in Parker(.system) }
    let first = Parker(.system)
    let claimed = machine.claim(first, now: Self.now)
    var store = try #require(claimed)
    for claim in claims {
      let early = machine.claim(claim, now: Self.now)
      #expect(early == nil)
    }
    for claim in claims {
      let request = try enqueue(waiting: true)
      giveBack(store)
      // The queue's turn, though others have waited for longer.
      let early = machine.collect(claim, now: Self.now)
      #expect(early == nil)
      guard case .lead(let leads, let batch) = machine.step(request, now: Self.now) else {
        Issue.record("who waits doesn't lead")
        return
      }
      #expect(batch.count == 1 && batch[0] === request)
      let late = try enqueue(waiting: true)
      giveBack(leads, ending: batch)
      // And then not the queue's again.
      guard case .wait = machine.step(late, now: Self.now) else {
        Issue.record("the queue has two turns")
        return
      }
      let collected = machine.collect(claim, now: Self.now)
      store = try #require(collected)
      let failed = machine.fail(machine.closed) { $0 === late }
      #expect(failed == 1)
    }
  }

  @Test("requests that nobody waits for are the keeper's, whose own claim doesn't wait for them")
  mutating func keepersClaim() throws {
    let first = Parker(.system)
    let claimed = machine.claim(first, now: Self.now)
    let store = try #require(claimed)
    let request = try enqueue(waiting: false)
    giveBack(store)
    let claim = machine.claim(machine.keeper, now: Self.now)
    let keepers = try #require(claim)
    giveBack(keepers)
    guard case .serve(_, let batch) = machine.nextDuty(now: Self.now) else {
      Issue.record("the keeper doesn't serve")
      return
    }
    #expect(batch.count == 1 && batch[0] === request)
  }

  @Test("a store that only the keeper would serve from is not given to others before, and is to them after")
  mutating func othersClaim() throws {
    let first = Parker(.system)
    let claimed = machine.claim(first, now: Self.now)
    let store = try #require(claimed)
    _ = try enqueue(waiting: false)
    giveBack(store)
    let other = Parker(.system)
    let early = machine.claim(other, now: Self.now)
    #expect(early == nil)
    guard case .serve(let served, let batch) = machine.nextDuty(now: Self.now) else {
      Issue.record("the keeper doesn't serve")
      return
    }
    giveBack(served, ending: batch)
    let collected = machine.collect(other, now: Self.now)
    #expect(collected != nil)
  }
}
