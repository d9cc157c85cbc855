import Audit
import BlobStore
import BlockIO
import Foundation
import Keyring
import Primitives
import Testing

@testable import VNVRAM

/// Four faults that the order of requests had, each by itself: completions that were never called under load, one that
/// waited for ever, a deregistration that didn't wait, and a large write that was starved.
struct ProtocolFaultTests {
  private let place: TestPlace
  private static let entries: [String: UInt64] = ["state": 4096, "vars": 10_000]
  private static let bound = 256
  private static let enough = isSanitized ? 2000 : 20_000

  init() throws {
    place = try TestPlace()
    try place.makeStore(Self.entries.merging(["device": 64]) { $1 })
    try place.bring("a", 1)
  }

  private func started(_ change: (inout NVRAMConfiguration) -> Void = { _ in }) throws -> NVRAM {
    let nvram = try place.nvram(Self.entries, audit: AuditLog(.none)) {
      $0.maximumRequests = Self.bound
      change(&$0)
    }
    try nvram.start(failOnEncryptedDrive: true)
    return nvram
  }

  // MARK: Under load

  private func load(_ nvram: NVRAM) -> Load { Load(nvram, of: 16, tooMany: 64 * Self.bound) }

  @Test("completions are called while two threads submit without pause, and what waits to be told is bounded")
  func completionsUnderLoad() throws {
    let nvram = try started()
    let load = load(nvram)
    #expect(eventually { load.now.told >= Self.enough || load.hasOverrun })
    let count = load.now
    #expect(count.told >= Self.enough, "told \(count.told) of \(count.accepted), with \(count.outstanding) outstanding")
    // The one whose completion is being called counts no more.
    #expect(count.outstanding <= Self.bound + 1)
    #expect(load.ends())
    #expect(nvram.closes())
    #expect(load.now.told == load.now.accepted)
  }

  @Test("a revoked key locks the store while two threads submit without pause")
  func revokedUnderLoad() throws {
    let serial = try place.bring("a", 1)
    let nvram = try started()
    let load = load(nvram)
    #expect(eventually { load.now.accepted > Self.bound })
    try Keyring.revoke(serial)
    #expect(eventually { nvram.isLocked || load.hasOverrun })
    let count = load.now
    #expect(
      !load.hasOverrun, "state \(nvram.state.name), \(count.accepted) accepted, \(count.outstanding) outstanding")
    #expect(load.ends())
    #expect(nvram.closes())
  }

  // MARK: Locked while a completion waits

  /// What waits behind other requests, and would wait for a key.
  enum Call: CaseIterable {
    case read, readPart, write, processRequests

    func make(_ nvram: NVRAM) -> NVRAMError.Code? {
      failure {
        switch self {
        case .read: _ = try nvram.readContent("state") as [UInt8]
        case .readPart:
          var part = [UInt8](repeating: 0, count: 10)
          _ = try nvram.readContent("state", at: ByteOffset(0), into: part.mutableSpan)
        case .write: try nvram.replace("state", content(2))
        case .processRequests: try nvram.processRequests()
        }
      }?.code
    }
  }

  /// A writer is in its sync; behind it a completion waits, then a lock; which comes before the completion's request.
  @Test("a completion that waits while another thread locks is told, and never hangs", arguments: Call.allCases)
  func lockedWhileACompletionWaits(_ call: Call) throws {
    let door = SyncDoor()
    var configuration = NVRAMConfiguration()
    configuration.shortestKeyTrialInterval = .milliseconds(1)
    let nvram = NVRAM(
      try DeviceWithDoor(path: place.image, door), audit: AuditLog(.none), configuration: configuration)
    for (name, capacity) in Self.entries {
      try nvram.register(entry: EntryName(name), capacity: ByteCount(capacity))
    }
    try nvram.start(failOnEncryptedDrive: true)
    let outcomes = Recorder<NVRAMError.Code?>()
    for round in 0..<20 where !outcomes.all.contains(.wouldDeadlock) {
      let (called, goOn) = (Latch(), Latch())
      try nvram.submit("state", content(1)) { _ in
        called.open()
        goOn.wait()
        outcomes.add(call.make(nvram))
      }
      try #require(called.wait())
      let isSyncing = door.close()
      let writer = Running { try nvram.replace("vars", content(3)) }
      try #require(isSyncing.wait())
      goOn.open()
      usleep(10_000)
      let locker = Running { try nvram.lock() }
      usleep(10_000)
      door.open()
      #expect(writer.ends())
      #expect(locker.ends())
      try #require(eventually { outcomes.all.count == round + 1 }, "the completion hangs")
      #expect(outcomes.all.allSatisfy { $0 == nil || $0 == .wouldDeadlock })
      nvram.poke()
      try #require(eventually { nvram.state == .running })
    }
    #expect(nvram.closes())
  }

  // MARK: Deregistered while the callback runs

  /// What calls an entry's callback.
  enum Use: CaseIterable {
    case read, write, asynchronousRead, asynchronousWrite

    func make(_ nvram: NVRAM) {
      switch self {
      case .read: try? nvram.read("device")
      case .write: try? nvram.write("device")
      case .asynchronousRead: _ = try? nvram.read("device") { _ in }
      case .asynchronousWrite: _ = try? nvram.write("device") { _ in }
      }
    }
  }

  /// A device whose callback does something in the middle, from when it is told to.
  private final class Device: Sendable {
    let isRunning = Locked(false)
    private let inTheMiddle = Locked<(@Sendable () -> Void)?>(nil)

    func then(_ body: @escaping @Sendable () -> Void) { inTheMiddle.withLock { $0 = body } }

    var callback: NVRAMCallback {
      { (_, visitor, _) throws(VisitorError) in
        self.isRunning.withLock { $0 = true }
        defer { self.isRunning.withLock { $0 = false } }
        var number: UInt32 = 7
        try visitor.visit("number", &number)
        self.inTheMiddle.withLock { $0 }?()
      }
    }
  }

  private func started(_ device: Device) throws -> NVRAM {
    let nvram = try started()
    try nvram.register(entry: "device", callback: device.callback)
    try nvram.write("device")
    return nvram
  }

  @Test("deregister returns when the callback has, whoever called it", arguments: Use.allCases)
  func deregisteredWhileItsCallbackRuns(_ use: Use) throws {
    let device = Device()
    let nvram = try started(device)
    let (called, goOn) = (Latch(), Latch())
    device.then {
      called.open()
      goOn.wait()
    }
    let user = Running { use.make(nvram) }
    try #require(called.wait())
    let deregistering = Running {
      try nvram.deregister(entry: "device")
      return device.isRunning.withLock { $0 }
    }
    usleep(50_000)
    #expect(!deregistering.hasEnded, "deregister returned while the callback ran")
    goOn.open()
    try #require(deregistering.ends() && user.ends())
    #expect(try deregistering.wait() == false)
    #expect(nvram.closes())
  }

  @Test("deregister from within the entry's own callback doesn't wait for itself", arguments: Use.allCases)
  func deregisteredByItsCallback(_ use: Use) throws {
    let device = Device()
    let nvram = try started(device)
    let returned = Latch()
    device.then {
      try? nvram.deregister(entry: "device")
      returned.open()
    }
    let user = Running { use.make(nvram) }
    try #require(returned.wait(), "deregister waits for the callback that called it")
    #expect(user.ends())
    #expect(failure { try nvram.deregister(entry: "device") }?.code == .notRegistered)
    device.then {}
    #expect(nvram.closes())
  }

  // MARK: A large write beside small ones

  /// It waited for the last request before it, which had ended and was another one's by then: it served on and on, and
  /// that other one was not told.
  @Test("a large write has its turn while others write small ones without pause")
  func largeBesideSmall() throws {
    let nvram = try started {
      $0.maximumRequestBytes = 8192
      $0.maximumRequests = 32
    }
    let load = Load(nvram, threads: 1, waiting: 6, of: 16, tooMany: 64 * Self.bound)
    #expect(eventually { load.now.accepted > Self.bound })
    for round in 0..<(isSanitized ? 20 : 200) {
      let before = load.now.accepted
      let large = Running { try nvram.replace("vars", content(round, count: 4096)) }
      // What was made before, and what was made until it was heard of: a thousand times as many are beyond any doubt.
      #expect(eventually { large.hasEnded || load.now.accepted - before > 100_000 || load.hasOverrun })
      let passed = load.now.accepted - before
      #expect(large.hasEnded, "round \(round): \(passed) small writes were accepted since, and it still waits")
      guard large.hasEnded else { break }
    }
    #expect(load.ends(), "a small write waits for ever")
    #expect(nvram.closes())
  }
}
