// One schedule: an NVRAM on a disk in memory, threads that call it, and what it promises (NVRAM's docstrings) watched
// meanwhile. All of it is touched by the thread whose turn it is, so nothing here has a lock.
import Audit
import BlobStore
import Primitives
import StorageSimulation
import VNVRAM

/// Touched by the thread whose turn it is, which the batons order.
final class Schedule: @unchecked Sendable {
  let plan: Plan
  let threads: DeterministicThreads
  let image: PristineImage
  let ledger = Ledger()
  var facts: Facts
  var tally = ScheduleTally()

  /// Until one who closes it throws it away.
  var nvram: NVRAM?
  var registrations: [Registration?] = Array(repeating: nil, count: Plan.entries)
  /// Calls of `register` and `deregister`, by entry: begun, and returned.
  var registeringBegun = [Int](repeating: 0, count: Plan.entries)
  var registeringEnded = [Int](repeating: 0, count: Plan.entries)
  private var lastValue: UInt32 = 0
  private var callbackActions: [Operation]
  /// How often an observer may still do something.
  var observations = 3

  // By thread, from 0.
  private var isClient = [true] + [Bool](repeating: false, count: 63)
  /// How many completions and observers, and callbacks, the thread is in.
  var inTelling = [Int](repeating: 0, count: 64)
  var inCallbacks = [Int](repeating: 0, count: 64)
  /// What its next callback writes, and its last one read.
  var encoding = [UInt32](repeating: 0, count: 64)
  var decoded = [UInt32?](repeating: nil, count: 64)
  var lastID = [Record?](repeating: nil, count: 64)

  /// The thread that calls completions.
  var teller: Int?
  /// What observers were told last.
  var lastState = NVRAMState.closed
  /// How many completions and observers block.
  var blocked = 0
  var closesBegun = 0
  /// A `close` has returned to one who isn't within anything.
  var isClosed = false
  var hasStarted = false
  var locksCalled = 0
  /// Calls that may open the store, or change its key.
  var keyCallsBegun = 0
  var keyCallsEnded = 0
  var bringsBegun = 0
  /// When the key was lost, in nanoseconds, and not brought back since.
  var keyLost: UInt64?
  var hasLostKey = false
  /// The step, and how many syncs there were, when it was found first that the lost key ought to be looked at.
  var lossSeen: (steps: Int, syncs: Int)?
  static let keyCheckInterval: UInt64 = 1_000_000_000
  /// Seven batches are the most that were seen where each thread has its turns, and 6000 steps where one may be kept
  /// from them for a thousand.
  static let batchesToLock = 20
  static let stepsToLock = 20_000
  /// All threads waited at a time by which the lost key ought to have been noticed.
  var isOverdue = false
  var stormIsOver = false
  private var acknowledgements = 0
  /// The acknowledgement right after which power is cut, in the end: when it was, and what the disk had then.
  private var acknowledged: (tick: Int, place: Int)?
  /// Calls of `lock` and `unlock`, and of `close` and `deregister`, from within nothing, that have not returned.
  var lockCalls = 0
  var quietCalls = 0
  private var clientsLeft = 0
  private var mainPlace = 0

  init(_ plan: Plan, _ threads: DeterministicThreads, _ image: PristineImage) {
    (self.plan, self.threads, self.image) = (plan, threads, image)
    callbackActions = plan.callbacks.reversed()
    facts = Facts(plan)
  }

  var disk: ScheduleDisk { image.disk }
  /// From 0.
  var thread: Int { threads.currentThread - 1 }
  var isInside: Bool { inTelling[thread] + inCallbacks[thread] > 0 }
  /// Of the NVRAM's own threads one alone runs what isn't its own.
  var isTeller: Bool { !isClient[thread] }

  func fail(_ text: String) -> Never { threads.fail(text) }

  func nextValue() -> UInt32 {
    lastValue += 1
    return lastValue
  }

  func takeCallbackAction() -> Operation? { callbackActions.popLast() }

  /// A write was acknowledged.
  func noteAcknowledgement() {
    guard let last = plan.cutAfter, acknowledgements < last else { return }
    acknowledgements += 1
    acknowledged = (ledger.tick(), disk.durable)
  }

  // MARK: The main thread

  /// Runs it all, as the first thread.
  func run() {
    disk.schedule = self
    disk.syncDuration = plan.syncDuration
    threads.whenIdle = { [unowned self] in idle($0) }
    mainPlace = threads.makeParker()
    begin(setUp(threads: .simulated(threads)))
    tend()
    // No reference is kept here meanwhile: a completion may drop the last.
    if let nvram {
      if !plan.closesAtOnce { drain(nvram) }
      close(nvram)
      checkClosed(nvram)
      close(nvram)
    } else {
      while disk.isOpen || !ledger.open.isEmpty { rest(.seconds(1)) }
    }
    finish()
  }

  private func begin(_ nvram: NVRAM) {
    self.nvram = nvram
    for entry in 0..<Plan.entries { register(nvram, entry) }
    observe(nvram, plan.observer)
    if !plan.startsLate { start(nvram) }
    clientsLeft = plan.clients.count
    for (number, operations) in plan.clients.enumerated() {
      threads.start("client \(number)") { [self] in
        isClient[thread] = true
        for operation in operations { perform(operation) }
        clientsLeft -= 1
        threads.unpark(mainPlace)
      }
    }
    if plan.startsLate { start(nvram) }
  }

  private func setUp(threads: Threads) -> NVRAM {
    var configuration = NVRAMConfiguration()
    configuration.form = plan.form == .plain ? .plain : .encrypted
    configuration.findsKeys = plan.form == .keyring
    configuration.maximumRequests = plan.maximumRequests
    configuration.maximumRequestBytes = plan.maximumRequestBytes
    return NVRAM(disk, audit: AuditLog(.none), configuration: configuration, anchor: nil, threads: threads)
  }

  private func start(_ nvram: NVRAM) {
    threads.note("start")
    defer { hasStarted = true }
    if plan.form == .keyring {
      if plan.startsWithoutKey { image.loseKey() } else { image.bringKey() }
    }
    disk.operationsUntilFailure = plan.operationsUntilFailure
    do throws(NVRAMError) {
      switch plan.form {
      case .given where !plan.startsWithoutKey: try nvram.start(with: image.key(), slotName: image.keyName)
      default: try nvram.start(failOnEncryptedDrive: false)
      }
      facts.started = ledger.tick()
    } catch {
      facts.hasFailed = facts.hasFailed || disk.hasFailed
      if !disk.hasFailed && closesBegun == 0 { fail("start threw \(error)") }
    }
  }

  /// Sees to it that a key comes, until the clients have done all that they do.
  private func tend() {
    while clientsLeft > 0 {
      rest(.seconds(10))
      guard let nvram else { continue }
      threads.note("tend")
      let state = nvram.state
      if isOverdue, let keyLost, state == .running {
        fail("promise 7: the key is lost since \(threads.nanoseconds - keyLost) ns, and the store runs")
      }
      if waits(state) { bringKey(nvram) }
    }
  }

  private func rest(_ duration: Duration) {
    threads.park(mainPlace, until: Instant(nanoseconds: threads.nanoseconds).advanced(by: duration))
  }

  private func waits(_ state: NVRAMState) -> Bool {
    switch state {
    case .keyPending, .locked: true
    default: false
    }
  }

  /// What was asked for without waiting is served, too. Completions and observers may still lock it.
  private func drain(_ nvram: NVRAM) {
    repeat {
      if waits(nvram.state) { bringKey(nvram) }
    } while processRequests(nvram, .seconds(10)).code == .timedOut
  }

  private func finish() {
    facts.hasFailed = facts.hasFailed || disk.hasFailed
    if let text = ledger.check(facts) { fail(text) }
    tally.note(ledger)
    nvram = nil
    if plan.reopens { reopen("opened again", at: nil) }
    if let acknowledged {
      disk.losePower(acknowledged.place)
      tally.powerCuts += 1
      reopen("opened after a power cut", at: acknowledged.tick)
    }
    threads.whenIdle = nil
  }

  /// Promise 5: what is called after that.
  private func checkClosed(_ nvram: NVRAM) {
    if nvram.state != .closed { fail("promise 5: it is \(nvram.state.name) after close") }
    if disk.isOpen { fail("promise 5: the device is open after close") }
    if nvram.generation != nil { fail("promise 5: it has a generation after close") }
    let entry = Self.name(0)
    expectClosed("readContent") { () throws(NVRAMError) in _ = try nvram.readContent(entry) }
    expectClosed("readContent without waiting") { () throws(NVRAMError) in
      try nvram.readContent(entry, completion: { _ in })
    }
    expectClosed("replaceContent") { () throws(NVRAMError) in
      try nvram.replaceContent(entry, Self.content(1, entry: 0).span)
    }
    expectClosed("processRequests") { () throws(NVRAMError) in try nvram.processRequests() }
    expectClosed("register") { () throws(NVRAMError) in
      try nvram.register(entry: "other", capacity: ByteCount(UInt64(8)))
    }
    expectClosed("start") { () throws(NVRAMError) in try nvram.start(failOnEncryptedDrive: false) }
    if plan.form != .plain {
      expectClosed("unlock") { () throws(NVRAMError) in try nvram.unlock(with: image.key()) }
    }
    if nvram.cancelAll() != 0 { fail("promise 5: requests wait after close") }
  }

  private func expectClosed(_ call: String, _ body: () throws(NVRAMError) -> Void) {
    do throws(NVRAMError) {
      try body()
      fail("promise 5: \(call) after close succeeds")
    } catch {
      if error.code != .closed { fail("promise 5: \(call) after close throws \(error.code)") }
    }
  }

  /// Promise 2, once more: what was acknowledged is in the image.
  ///
  /// - Parameter cut: when power was cut.
  private func reopen(_ what: String, at cut: Int?) {
    disk.reopen()
    disk.operationsUntilFailure = nil
    disk.prohibition = nil
    let nvram = setUp(threads: .simulated(threads))
    do throws(NVRAMError) {
      for entry in 0..<Plan.entries {
        try nvram.register(entry: Self.name(entry), capacity: ByteCount(UInt64(image.capacity(entry))))
      }
      if plan.form == .plain {
        try nvram.start(failOnEncryptedDrive: true)
      } else {
        try nvram.start(with: image.key())
      }
      for entry in 0..<Plan.entries {
        let record = ledger.add { number, tick in
          Record(
            number, .read, entry: entry, thread: thread, isAsynchronous: false, isTellers: false,
            called: cut ?? tick, within: nil, at: 0)
        }
        record.isOfCut = cut != nil
        var content = try nvram.readContent(Self.name(entry))
        if entry == Plan.visited { content.removeFirst(content.count - Plan.sizes[entry]) }
        record.value = value(content, entry: entry)
        ledger.end(record, .success(()))
        ledger.returned(record)
        if let cut { record.ended = cut }
        record.accepted = record.ended
      }
      try nvram.close()
    } catch { if !facts.hasFailed || cut != nil { fail("\(what), it threw \(error)") } }
    if let text = ledger.check(facts) { fail("\(what): \(text)") }
  }

  /// A header was written: neither as the store was opened nor as it was closed or locked, so by a checkpoint.
  func noteHeaderWrite() {
    if plan.form == .given, hasStarted, lockCalls == 0, closesBegun == 0 { tally.checkpoints += 1 }
  }

  // MARK: Content

  static func name(_ entry: Int) -> EntryName { EntryName(stringLiteral: names[entry]) }
  private static let names = ["e0", "e1", "e2"]

  static func content(_ value: UInt32, entry: Int) -> [UInt8] {
    (0..<Plan.sizes[entry]).map { UInt8(truncatingIfNeeded: value >> (8 * UInt32($0 % 4))) }
  }

  /// The number that the content stands for; a mixture is a violation.
  func value(_ content: [UInt8], entry: Int) -> UInt32 {
    let value = content.prefix(4).reversed().reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
    if content != Self.content(value, entry: entry) {
      fail("e\(entry) holds \(content.count) bytes that nobody wrote, beginning \(content.prefix(8))")
    }
    return value
  }

  // MARK: When all wait

  /// All threads wait, and time is to pass. What would end without that?
  private func idle(_ left: UInt64) -> String? {
    // Who serves the queue may wait so long for others that are about to come.
    guard left > 1_000_000 else { return nil }
    tally.idle += 1
    if let keyLost, threads.nanoseconds > keyLost + 1_000_000_000 { isOverdue = true }
    if lockCalls > 0 { return "a call of lock or unlock waits for a time to come" }
    if quietCalls > 0, blocked == 0, !inCallbacks.contains(where: { $0 > 0 }) {
      return "promises 4 and 5: a call of deregister or close waits, and nothing blocks"
    }
    // What observers were told may be old.
    if blocked > 0, locksCalled > 0 || plan.form == .keyring || plan.startsWithoutKey { return nil }
    for record in ledger.open where blocked == 0 || !record.isAsynchronous && record.kind != .barrier {
      // Its callback waits, for something that is another record; and its time begins when that has returned.
      if !record.isAsynchronous || record.accepted == nil, inCallbacks[record.thread] > 0 { continue }
      if record.isOverdue(at: threads.nanoseconds) {
        return "promise 9: \(record.text) waits though its deadline has passed"
      }
      if lastState == .running { return "\(record.text) waits for a time to come, though the store runs" }
      if case .failed = lastState { return "\(record.text) waits though the store has failed" }
      if closesBegun > 0 { return "promise 5: \(record.text) waits though close was called" }
    }
    return nil
  }
}
