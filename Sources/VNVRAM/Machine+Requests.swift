import BlobStore
import Primitives

// The way of a request: admitted, queued, served, ended.
extension Machine {
  // MARK: Admitting

  /// The entry that a request is for. Throws where no request may be made now.
  ///
  /// - Parameter expected: the entry that the caller knows under this name.
  func admit(_ name: EntryName, as expected: RegisteredEntry? = nil) throws(NVRAMError) -> RegisteredEntry {
    try admit()
    guard let entry = registered[name], expected == nil || expected === entry else { throw notRegistered(name) }
    return entry
  }

  private func admit() throws(NVRAMError) {
    switch phase {
    case .running, .keyPending, .verifying, .locking, .locked: break
    case .failed(let error):
      throw NVRAMError(
        .failedEarlier, error.status, store: name,
        "failed earlier and takes no more requests; close it and set it up anew (\(error.detail))")
    case .closed, .unformatted: throw NVRAMError(.notStarted, .failed, store: name, "was not started")
    case .closing, .ended: throw closed
    }
  }

  private func check(
    _ entry: RegisteredEntry, _ operation: Request.Operation, _ count: Int
  ) throws(NVRAMError) {
    let offset: UInt64
    switch operation {
    case .write(let start): offset = start
    case .replace: offset = 0
    case .read, .readAll, .barrier: return
    }
    guard offset <= entry.capacity, UInt64(count) <= entry.capacity - offset else {
      throw NVRAMError(
        .tooLarge, .noSpace, store: name,
        "entry \"\(entry.name)\" is registered with \(entry.capacity) bytes; \(count) at byte \(offset) are too many")
    }
  }

  /// Lets a request queue.
  ///
  /// - Parameter name: the entry that it is for, if it is for one.
  mutating func enqueue(
    _ request: Request, _ name: EntryName?, as expected: RegisteredEntry? = nil, by thread: Threads.ID
  ) throws(NVRAMError) {
    if let name {
      let entry = try admit(name, as: expected)
      try check(entry, request.operation, request.count)
      request.entry = entry
      request.held = held(by: request)
      // Who waits lends its bytes, and is kept from waiting only by what is to be served before.
      let others = request.parker == nil ? outstanding : queue.count
      guard others < configuration.maximumRequests, request.held <= configuration.maximumRequestBytes - heldBytes
      else { throw queueFull(others, request.held) }
    } else {
      try admit()
    }
    request.isTellers = workers.teller == thread
    if request.parker != nil, request.isTellers, waitsForKey { throw wouldDeadlock }
    requestsSoFar += 1
    request.number = requestsSoFar
    request.entry?.uses += 1
    if request.parker == nil {
      outstanding += 1
      heldBytes += request.held
      if let deadline = request.deadline, alarm.map({ deadline < $0 }) ?? true { wake(keeper) }
    }
    queue.append(request)
    pass()
  }

  /// How many bytes of memory a request has until it is told: none where the caller lends its own. What is read may be
  /// more than all requests together may have; such a request then is the only one.
  private func held(by request: Request) -> Int {
    guard request.parker == nil else { return 0 }
    if case .readAll = request.operation { return min(request.size, configuration.maximumRequestBytes) }
    return request.size
  }

  // MARK: Serving

  /// A store that is served from at once: nobody has it, and nobody waits.
  mutating func takeIfFree(
    _ name: EntryName, as expected: RegisteredEntry?, for operation: Request.Operation, _ count: Int, now: Instant
  ) throws(NVRAMError) -> (Store, RegisteredEntry)? {
    let entry = try admit(name, as: expected)
    try check(entry, operation, count)
    guard isRunning, isIdle || ShellMutant.overtakeQueue.isOn, case .here(let store) = custody else { return nil }
    switch operation {
    case .write, .replace: guard !gathering.isWorthIt(with: 1, now: now) else { return nil }
    case .read, .readAll, .barrier: break
    }
    lend(now)
    entry.uses += 1
    return (store, entry)
  }

  enum Step: Sendable {
    /// `nil` where it went well.
    case ended(NVRAMError?)
    /// The thread has the store, and serves these.
    case lead(Store, [Request])
    case wait(until: Instant?)
  }

  /// What a thread does that waits for a request.
  mutating func step(_ request: Request, now: Instant) -> Step {
    if request.isOver(now) {
      switch request.phase {
      case .queued: fail(timedOut) { $0 === request }
      case .telling:
        outbox.remove(request)
        finish(request)
        return .ended(timedOut)
      case .made, .served, .ended: break
      }
    }
    switch request.phase {
    case .ended:
      if let entry = request.entry { settle(entry) }
      return .ended(request.failure)
    case .queued: return lead(request, now: now) ?? .wait(until: request.deadline)
    case .telling: return .wait(until: request.deadline)
    case .made, .served: return .wait(until: nil)
    }
  }

  /// Serves the queue, if the store is the thread's, or anybody's who has come as the last of those that are gathered.
  private mutating func lead(_ request: Request, now: Instant) -> Step? {
    let store: Store
    switch custody {
    case .granted(let granted, let other) where other === request.parker: store = granted
    case .here(let here) where gathering.until != nil: store = here
    default: return nil
    }
    if claims.isEmpty, gathering.isWorthIt(with: queue.waiting, now: now, until: request.deadline) {
      if gathering.until == nil { gathering.begin() }
      custody = .here(store)
      // The first has the time in view.
      let isFirst = queue.firstParker === request.parker && !ShellMutant.gatherForEver.isOn
      return isFirst ? .wait(until: gathering.until) : nil
    }
    lend(now)
    return .lead(store, takeBatch(now: now))
  }

  /// What is to be served together.
  mutating func takeBatch(now: Instant) -> [Request] {
    var expired: [Request] = []
    let batch = queue.takeBatch(now: now, &expired)
    for request in expired {
      request.settle(timedOut)
      end(request)
    }
    return batch
  }

  /// Requests were served.
  mutating func end(_ batch: [Request]) {
    for request in batch { end(request) }
  }

  /// A request's outcome is settled.
  private mutating func end(_ request: Request) {
    if request.parker == nil || request.isTold && !(outbox.isEmpty && !isTelling) {
      request.phase = .telling
      if request.parker == nil, ShellMutant.unboundedOutbox.isOn { release(request) }
      outbox.append(request)
      wake(teller)
    } else {
      finish(request)
    }
  }

  /// Who waits for a request is to go on.
  mutating func finish(_ request: Request) {
    request.phase = ShellMutant.recycledRequest.isOn ? .made : .ended
    if let parker = request.parker { wake(parker) }
  }

  /// A request that was told counts no more.
  mutating func release(_ request: Request) {
    outstanding -= 1
    heldBytes -= request.held
  }

  /// One use of an entry less.
  mutating func settle(_ entry: RegisteredEntry) {
    entry.uses -= 1
    if entry.uses == 0, let parker = entry.deregistering { wake(parker) }
  }

  // MARK: Ending what waits

  /// Ends requests that were not served yet, in order. Returns how many there were.
  @discardableResult
  mutating func fail(_ error: NVRAMError, where isMeant: (Request) -> Bool) -> Int {
    let requests = queue.take(where: isMeant)
    for request in requests {
      request.settle(error)
      end(request)
    }
    guard !requests.isEmpty else { return 0 }
    guard !ShellMutant.cancelWithoutPassing.isOn else { return requests.count }
    // One of them may have been about to lead, or had the time in view, or been what others came after.
    gathering.stop(with: queue.waiting)
    if case .granted(let store, let parker) = custody, requests.contains(where: { $0.parker === parker }) {
      custody = .here(store)
    }
    pass()
    return requests.count
  }

  mutating func failQueue(_ error: NVRAMError) { fail(error) { _ in true } }

  /// The teller can't wait for a key: what it tells may be what brings the key.
  mutating func failTellers() {
    guard !ShellMutant.deadlockingTeller.isOn else { return }
    fail(wouldDeadlock) { $0.parker != nil && $0.isTellers }
  }

  /// Ends requests whose time is over and that nobody waits for.
  mutating func expire(now: Instant) {
    guard let earliest = queue.earliestDeadline, earliest <= now else { return }
    fail(timedOut) { $0.parker == nil && $0.isOver(now) }
  }

  // MARK: Errors

  var closed: NVRAMError { NVRAMError(.closed, .failed, store: name, "was closed; set it up anew") }

  func notRegistered(_ entry: EntryName) -> NVRAMError {
    NVRAMError(.notRegistered, .notFound, store: name, "entry \"\(entry)\" is not registered; register it first")
  }

  var wouldDeadlock: NVRAMError {
    NVRAMError(
      .wouldDeadlock, .failed, store: name,
      "a completion or an observer can't wait for a key, which only it lets come; ask without waiting")
  }

  var timedOut: NVRAMError {
    let keys = search?.wanted ?? WantedKeys()
    let why = keys.isEmpty ? "the store was busy" : keys.sentence
    return NVRAMError(.timedOut, .timedOut, store: name, "timed out: \(why)", keys: keys)
  }

  private func queueFull(_ others: Int, _ count: Int) -> NVRAMError {
    NVRAMError(
      .queueFull, .noSpace, store: name,
      "\(others) requests wait already, with \(heldBytes) bytes held, and one more of \(count) bytes is over the limit; "
        + "ask again when some have ended")
  }
}
