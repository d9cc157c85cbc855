import Keyring
import Primitives

// The NVRAM's own thread: calls completions and observers, looks for keys, serves what nobody waits for, and does the
// upkeep. Everything that it may have to wait for, it waits for here.
extension NVRAM {
  /// Looks for the keys now, and tries what is there even if it has not changed since it was tried, except a key that is
  /// known to be wrong; asks for what isn't there, if keys are asked for. Returns at once; observers are told what comes of it.
  ///
  /// Called over and over it is done as often as `NVRAMConfiguration.shortestKeyTrialInterval` and `shortestAskInterval`
  /// allow, the last time after the last call.
  public func poke() {
    monitor.withLock { s in
      s.watch.hurry()
      s.inquiry.hurry()
      showAsking(s)
      s.workerHasWork.signal()
    }
  }

  /// Until `close`.
  func work() {
    monitor.withLock { s in
      while true {
        giveOut(s)
        if s.workerMustEnd, s.outbox.isEmpty { return }
        expire(s)
        if s.isOpen, s.watch.isDue(now: .now) { lookForKeys(s) }
        if s.isOpen, s.state.wanted != nil, s.inquiry.isDue(now: .now) { startAsking(s) }
        if s.coreWaiters == 0, !s.coreIsTaken, s.state == .running { serveOrKeepUp(s) }
        if s.outbox.isEmpty, !hasWork(s) { monitor.wait(for: s.workerHasWork, until: nextTime(s)) }
      }
    }
  }

  /// Whether something came up since it was looked for.
  private func hasWork(_ s: NVRAMShared) -> Bool {
    if s.workerMustEnd { return true }
    if s.isOpen, s.watch.isUrgent, s.watch.isDue(now: .now) { return true }
    guard s.state == .running, !s.coreIsTaken, s.coreWaiters == 0 else { return false }
    return !s.queue.isEmpty || isUpkeepDue(s) || isAnchorDue(s)
  }

  private func nextTime(_ s: NVRAMShared) -> Instant? {
    guard s.isOpen else { return nil }
    var due = s.state == .running ? [s.upkeepDue, s.anchorDue].compactMap { $0 }.min() : nil
    // What is overdue can't be done while somebody has the core, for as long as a device takes to sync: look again
    // later, and not over and over.
    if let time = due, s.coreIsTaken || s.coreWaiters > 0 { due = max(time, Instant.now.advanced(by: Self.pause)) }
    let inquiry = s.state.wanted == nil ? nil : s.inquiry.next
    return [s.watch.next, s.queue.earliestDeadline, due, inquiry].compactMap { $0 }.min()
  }

  // MARK: Giving out

  private func giveOut(_ s: NVRAMShared) {
    while !s.outbox.isEmpty {
      let items = s.outbox
      s.outbox = []
      let observers = s.observers
      for item in items {
        monitor.withoutLock {
          switch item {
          case .event(let event): for observer in observers { observer(event) }
          case .completion(let request): request.completion?(request)
          }
        }
        if case .completion(let request) = item { s.recycle(request) }
      }
    }
  }

  /// Ends requests whose time is over and that nobody waits for.
  private func expire(_ s: NVRAMShared) {
    guard let earliest = s.queue.earliestDeadline else { return }
    let now = Instant.now
    guard earliest <= now else { return }
    let requests = s.queue.take { request in
      guard request.completion != nil, let deadline = request.deadline else { return false }
      return deadline <= now
    }
    s.fail(requests, timedOut(s))
  }

  // MARK: The core

  private func serveOrKeepUp(_ s: NVRAMShared) {
    guard !s.queue.isEmpty || isUpkeepDue(s) || isAnchorDue(s) else { return }
    s.coreIsTaken = true
    requestAnchor(s)
    if s.queue.isEmpty {
      keepUp(s)
    } else {
      serveQueue(s)
      noteServed(s)
    }
    releaseCore(s)
  }

  private func isUpkeepDue(_ s: NVRAMShared) -> Bool { s.upkeepDue.map { $0 <= .now } ?? false }

  // MARK: Keys

  private func lookForKeys(_ s: NVRAMShared) {
    switch s.state {
    case .keyPending, .locked: search(s)
    case .running: guardKey(s)
    case .closed, .unformatted, .failed, .verifying: s.watch.stop()
    }
  }

  /// Looks whether any key is another than when it was tried last, and if so tries them all.
  private func search(_ s: NVRAMShared) {
    let isUrgent = s.watch.isUrgent
    let seen = s.seen
    let isTimeToCompare = s.watch.takeComparison(now: .now)
    s.watch.searched(now: .now)
    guard isUrgent || monitor.withoutLock({ hasChanged(seen, comparing: isTimeToCompare) }) else { return }
    // Too early: it is done when it is time.
    guard s.watch.mayTry(now: .now) else { return s.watch.hurry() }
    s.watch.tried(now: .now)
    _ = takeCore(s)
    defer { releaseCore(s) }
    guard s.isOpen, let device = s.device, s.state.wanted != nil else { return }
    let before = s.state
    s.become(.verifying)
    do throws(NVRAMError) {
      let anchor = s.anchor
      let (earlier, answered) = (s.seen, s.inquiry.answered)
      let opening = try monitor.withoutLock { () throws(NVRAMError) in
        try open(device, anchor, earlier: earlier, answered: answered)
      }
      if opening.core == nil, case .locked = before {
        s.become(.locked(asking(s, for: opening)))
        s.seen = opening.seen
      } else {
        settle(s, opening)
      }
      if s.state == .running { serveQueue(s) }
    } catch {
      guard error.code == .audit else { return fail(s, error) }
      // The key was not used. It is tried again when the record can be written.
      s.become(before)
      showAsking(s)
      s.tell(.trouble(error))
    }
  }

  private func hasChanged(_ seen: [Unlocker.SlotSighting], comparing: Bool) -> Bool {
    seen.contains { unlocker.hasChanged($0, comparing: comparing) }
  }

  /// Locks where the key that opened the store is no longer to be had.
  private func guardKey(_ s: NVRAMShared) {
    s.watch.guarded(now: .now)
    guard configuration.keyLossPolicy == .lock, let opener = s.opener, var keyGuard = s.keyGuard else { return }
    let loss = monitor.withoutLock { keyGuard.loss() }
    guard s.opener == opener else { return }
    s.keyGuard = keyGuard
    guard let loss else { return }
    _ = takeCore(s)
    defer { releaseCore(s) }
    guard s.state == .running, s.opener == opener else { return }
    if loss.code == .missing || loss.code == .expired, let use = s.openerUse {
      s.inquiry.want([use])
    } else {
      s.inquiry.forbid()
    }
    let seen = Unlocker.SlotSighting.all(watchedKeys(s), afterLosing: opener.slot, loss, earlier: s.seen)
    try? lock(
      s, wanted: WantedKeys(lost: opener.slot, loss), seen: seen, because: "key \"\(opener.slot)\" \(loss.detail)")
  }
}
