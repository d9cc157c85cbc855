import BlobStore
import Primitives
import VNVRAM

// What threads, completions, observers and callbacks do, and what has to be so when a call returns.
extension Schedule {
  func perform(_ operation: Operation) {
    guard let nvram else { return }
    threads.note(operation.label)
    switch operation {
    case .write(let transfer): write(nvram, transfer)
    case .read(let transfer): read(nvram, transfer)
    case .cancel: cancel(nvram)
    case .cancelAll: cancelAll(nvram)
    case .processRequests(let deadline): _ = processRequests(nvram, deadline)
    case .lock: lock(nvram)
    case .unlock: unlock(nvram)
    case .close: close(nvram)
    case .register(let entry): register(nvram, entry)
    case .deregister(let entry): deregister(nvram, entry)
    case .observe(let actions): observe(nvram, actions)
    case .look: look(nvram)
    case .flood(let entry, let count):
      for _ in 0..<count { write(nvram, Operation.Transfer(entry: entry, completion: [])) }
    case .loseKey(let entry, let waiting): loseKey(nvram, entry, waiting)
    case .bringKey: bringKey(nvram)
    case .poke: poke(nvram)
    case .block(let duration): block(duration)
    case .throwAway:
      close(nvram)
      self.nvram = nil
    case .storm(let operations):
      while !stormIsOver, closesBegun == 0 {
        for operation in operations { perform(operation) }
        threads.pass(.milliseconds(10))
      }
    case .comeThrough(let operation):
      perform(operation)
      stormIsOver = true
    }
  }

  // MARK: Keys

  private func lock(_ nvram: NVRAM) {
    locksCalled += 1
    facts.mayWaitForKey = facts.mayWaitForKey || plan.form != .plain
    let calls = keyCallsBegun
    let wasQuiet = hasStarted && keyCallsEnded == calls && canTell(nvram)
    lockCalls += 1
    defer { lockCalls -= 1 }
    do throws(NVRAMError) {
      try nvram.lock()
      tally.locks += 1
    } catch {
      if error.code != .closed && !disk.hasFailed { fail("lock threw \(error)") }
      return
    }
    // Only a key of the caller's, another kernel key or `poke` opens it again, and nobody has begun to bring them.
    if wasQuiet, calls == keyCallsBegun, closesBegun == 0 {
      disk.prohibition = "promise 6: lock has returned"
    }
  }

  /// Whether locking it now is what locks it. Where a kernel key was lost, that may do it first, and the next key opens
  /// it.
  private func canTell(_ nvram: NVRAM) -> Bool {
    switch plan.form {
    case .plain: false
    case .given: true
    case .keyring: !hasLostKey && lockCalls == 0 && nvram.state == .running
    }
  }

  private func beginKeyCall() {
    keyCallsBegun += 1
    disk.prohibition = nil
  }

  private func poke(_ nvram: NVRAM) {
    beginKeyCall()
    defer { keyCallsEnded += 1 }
    nvram.poke()
  }

  private func unlock(_ nvram: NVRAM) {
    // The key that the caller has would not be watched.
    guard plan.form == .given else { return bringKey(nvram) }
    beginKeyCall()
    lockCalls += 1
    defer {
      keyCallsEnded += 1
      lockCalls -= 1
    }
    do throws(NVRAMError) { try nvram.unlock(with: image.key(), slotName: image.keyName) } catch {
      switch error.code {
      case .started, .closed: break
      default: if !disk.hasFailed { fail("unlock threw \(error)") }
      }
    }
  }

  /// Brings whatever key the store can be opened with.
  func bringKey(_ nvram: NVRAM) {
    guard plan.form == .keyring else { return plan.form == .given ? unlock(nvram) : () }
    bringsBegun += 1
    image.bringKey()
    keyLost = nil
    lossSeen = nil
    isOverdue = false
    poke(nvram)
  }

  /// Takes the key away, and has load until that is noticed: it must be, whatever the load (promise 7).
  private func loseKey(_ nvram: NVRAM, _ entry: Int, _ waiting: Bool) {
    guard nvram.state == .running, closesBegun == 0 else { return }
    beginKeyCall()
    image.loseKey()
    keyCallsEnded += 1
    hasLostKey = true
    facts.mayWaitForKey = true
    if keyLost == nil { (keyLost, lossSeen, isOverdue) = (threads.nanoseconds, nil, false) }
    let brings = bringsBegun
    while nvram.state == .running, brings == bringsBegun {
      if let text = checkLoss() { fail(text) }
      write(nvram, Operation.Transfer(entry: entry, deadline: .seconds(1), completion: waiting ? nil : []))
      threads.pass(.milliseconds(100))
    }
    if brings == bringsBegun { tally.keysLost += 1 }
  }

  /// Promise 7, under load: from when the lost key ought to be looked at, the thread that does it has had its turns.
  private func checkLoss() -> String? {
    guard let keyLost, threads.nanoseconds > keyLost + Self.keyCheckInterval else { return nil }
    let (steps, syncs) = lossSeen ?? (threads.steps, disk.syncs)
    lossSeen = (steps, syncs)
    let (late, batches) = (threads.steps - steps, disk.syncs - syncs)
    let isFair = plan.options.strategy == .uniform
    tally.longestLoss = max(tally.longestLoss, late)
    if isFair { tally.mostBatches = max(tally.mostBatches, batches) }
    guard late > Self.stepsToLock || isFair && batches > Self.batchesToLock else { return nil }
    return "promise 7: \(late) steps and \(batches) batches after the lost key was to be looked at the store runs"
  }

  // MARK: Requests

  private func record(_ kind: Record.Kind, _ entry: Int?, _ duration: Duration?, _ isAsynchronous: Bool) -> Record {
    ledger.add { [self] number, tick in
      Record(
        number, kind, entry: entry, thread: thread, isAsynchronous: isAsynchronous, isTellers: isTeller, called: tick,
        within: duration, at: threads.nanoseconds)
    }
  }

  private func write(_ nvram: NVRAM, _ transfer: Operation.Transfer) {
    let (entry, value) = (transfer.entry, nextValue())
    let content = Self.content(value, entry: entry)
    let record = record(.write(value), entry, transfer.deadline, transfer.completion != nil)
    encoding[thread] = value
    let (name, within) = (Self.name(entry), transfer.deadline)
    guard let actions = transfer.completion else {
      return wait(for: record) { () throws(NVRAMError) in
        if entry == Plan.visited {
          try nvram.write(name, deadline: within)
        } else if transfer.otherWay {
          try nvram.writeContent(name, at: ByteOffset(0), content.span, deadline: within)
        } else {
          try nvram.replaceContent(name, content.span, deadline: within)
        }
      }
    }
    submit(record) { () throws(NVRAMError) in
      let completion = completion(of: record, actions)
      if entry == Plan.visited {
        return try nvram.write(name, deadline: within, completion: completion)
      } else if transfer.otherWay {
        return try nvram.writeContent(
          name, at: ByteOffset(0), content.span, deadline: within, completion: completion)
      }
      return try nvram.replaceContent(name, content.span, deadline: within, completion: completion)
    }
  }

  private func read(_ nvram: NVRAM, _ transfer: Operation.Transfer) {
    let entry = transfer.entry
    let record = record(.read, entry, transfer.deadline, transfer.completion != nil)
    let (name, within) = (Self.name(entry), transfer.deadline)
    guard let actions = transfer.completion else {
      return wait(for: record) { () throws(NVRAMError) in
        if entry == Plan.visited {
          try nvram.read(name, deadline: within)
          record.value = decoded[thread]
        } else if transfer.otherWay {
          var buffer = [UInt8](repeating: 0, count: Plan.sizes[entry] + 8)
          let count = try nvram.readContent(name, at: ByteOffset(0), into: buffer.mutableSpan, deadline: within)
          record.value = value(Array(buffer.prefix(count)), entry: entry)
        } else {
          record.value = value(try nvram.readContent(name, deadline: within), entry: entry)
        }
      }
    }
    submit(record) { () throws(NVRAMError) in
      if entry == Plan.visited {
        return try nvram.read(name, deadline: within) { [self] result in
          if case .success = result { record.value = decoded[thread] }
          completed(record, result, actions)
        }
      }
      return try nvram.readContent(name, deadline: within) { [self] result in
        if case .success(let content) = result { record.value = value(content, entry: entry) }
        completed(record, result.map { _ in }, actions)
      }
    }
  }

  func processRequests(_ nvram: NVRAM, _ duration: Duration?) -> Record {
    let record = record(.barrier, nil, duration, false)
    wait(for: record) { () throws(NVRAMError) in try nvram.processRequests(deadline: duration) }
    if record.hasSucceeded, !isTeller, let left = ledger.untold(before: record.called) {
      fail("promise 10: processRequests has returned, and the completion of \(left.text) has not")
    }
    return record
  }

  /// A call that returns when the request has ended.
  private func wait(for record: Record, _ body: () throws(NVRAMError) -> Void) {
    let wasClosed = isClosed
    do throws(NVRAMError) {
      try body()
      ledger.end(record, .success(()))
    } catch { ledger.end(record, .failure(error)) }
    record.accepted = record.ended
    checkOutcome(record)
    ledger.returned(record)
    if wasClosed, record.code != .closed { fail("promise 5: after close \(record.text) ended otherwise") }
  }

  private func submit(_ record: Record, _ body: () throws(NVRAMError) -> NVRAMRequestID) {
    let (wasClosed, registration) = (isClosed, quietRegistration(record.entry ?? 0))
    do throws(NVRAMError) {
      record.id = try body()
      record.accepted = ledger.tick()
      if registration === quietRegistration(record.entry ?? 0) { record.registration = registration }
      ledger.returned(record)
      lastID[thread] = record
      if wasClosed { fail("promise 5: \(record.text) is taken after close") }
      checkBounds()
    } catch {
      if record.ended != nil { fail("promise 1: \(record.text) was refused, and its completion called") }
      ledger.end(record, .failure(error))
      record.told = record.ended
      checkOutcome(record)
      ledger.returned(record)
      if wasClosed, error.code != .closed { fail("promise 5: after close \(record.text) throws \(error.code)") }
    }
  }

  /// One more may be counted here, whose completion is about to be called.
  private func checkBounds() {
    let (count, bytes) = ledger.outstanding(limit: plan.maximumRequestBytes)
    if count > plan.maximumRequests + 1 { fail("\(count) requests wait, of \(plan.maximumRequests) that may") }
    if bytes > plan.maximumRequestBytes + min(Plan.sizes[2] + 4, plan.maximumRequestBytes) {
      fail("\(bytes) bytes are held, of \(plan.maximumRequestBytes) that may be")
    }
  }

  private func cancel(_ nvram: NVRAM) {
    guard let record = lastID[thread], let id = record.id else { return }
    let wasOver = record.ended != nil
    record.isToBeCancelled = true
    guard nvram.cancel(id) else { return }
    tally.cancels += 1
    facts.cancelled += 1
    if wasOver || record.wasCancelled == true { fail("promise 9: \(record.text) was called off, and had ended") }
    record.wasCancelled = true
  }

  private func cancelAll(_ nvram: NVRAM) {
    facts.cancellingAll.begun += 1
    facts.cancelled += nvram.cancelAll()
    facts.cancellingAll.end(ledger.tick())
  }

  // MARK: Outcomes

  private func completion(
    of record: Record, _ actions: [Operation]
  ) -> @Sendable (Result<Void, NVRAMError>) -> Void {
    { [self] in completed(record, $0, actions) }
  }

  private func completed(_ record: Record, _ result: Result<Void, NVRAMError>, _ actions: [Operation]) {
    if record.ended != nil { fail("promise 1: the completion of \(record.text) is called twice") }
    tell {
      ledger.end(record, result)
      checkOutcome(record)
      for action in actions { perform(action) }
      record.told = ledger.tick()
    }
  }

  private func checkOutcome(_ record: Record) {
    if record.hasSucceeded, case .write = record.kind, disk.durableSince <= record.called {
      fail("promise 2: \(record.text) is acknowledged, and no sync that began after it was asked for has succeeded")
    }
    if record.code == .timedOut, let deadline = record.deadline, deadline > threads.nanoseconds {
      fail("promise 9: \(record.text) timed out \(deadline - threads.nanoseconds) ns early")
    }
    facts.hasFailed = facts.hasFailed || disk.hasFailed
    if let text = facts.objection(to: record, ledger) { fail(text) }
    if record.hasSucceeded, case .write = record.kind { noteAcknowledgement() }
  }

  /// Runs a completion or an observer.
  func tell(_ body: () -> Void) {
    if teller == nil { teller = thread }
    if teller != thread { fail("promise 1: a completion or an observer is called on another thread") }
    if inTelling[thread] > 0 { fail("promise 1: a completion or an observer is called within another one") }
    if isClosed { fail("promise 5: a completion or an observer is called after close") }
    inTelling[thread] += 1
    body()
    inTelling[thread] -= 1
  }

  private func block(_ duration: Duration) {
    let place = threads.makeParker()
    let end = Instant(nanoseconds: threads.nanoseconds).advanced(by: duration)
    blocked += 1
    while threads.now < end { threads.park(place, until: end) }
    blocked -= 1
  }

  // MARK: The rest

  func observe(_ nvram: NVRAM, _ actions: [Operation]) {
    nvram.observe { [self] event in
      tell {
        if case .state(let state) = event { note(state) }
        guard observations > 0 else { return }
        observations -= 1
        for action in actions { perform(action) }
      }
    }
  }

  private func note(_ state: NVRAMState) {
    switch (lastState, state) {
    case (.failed, .closed), (.failed, .failed): break
    case (.failed, _): fail("it was failed, and is \(state.name)")
    default: break
    }
    lastState = state
  }

  private func look(_ nvram: NVRAM) {
    let wasClosed = isClosed
    let state = nvram.state
    if wasClosed, state != .closed { fail("promise 5: it is \(state.name) after close") }
    let generation = nvram.generation
    if plan.form == .plain, generation != nil { fail("a plain store has a generation") }
    _ = nvram.hadFatalError
  }

  func close(_ nvram: NVRAM) {
    closesBegun += 1
    facts.wasClosed = true
    if !isInside { quietCalls += 1 }
    defer { if !isInside { quietCalls -= 1 } }
    do throws(NVRAMError) { try nvram.close() } catch { if !disk.hasFailed { fail("close threw \(error)") } }
    if isInside { return }
    if disk.isOpen { fail("promise 5: close has returned, and the device is open") }
    if let left = ledger.untold(before: .max) {
      fail("promise 5: close has returned, and the completion of \(left.text) has not")
    }
    if inCallbacks.contains(where: { $0 > 0 }) { fail("promise 5: close has returned, and a callback runs") }
    isClosed = true
  }
}
