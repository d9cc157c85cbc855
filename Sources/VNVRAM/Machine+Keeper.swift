import Primitives

// What the keeper does, one thing a turn: it looks for keys and guards the one that opened the store, serves what
// nobody waits for, and does the upkeep. Keys come first, and only when it is time for them; so no load keeps them
// waiting, nor they it.
extension Machine {
  enum Duty: Sendable {
    /// Look whether keys have changed, and try them if they have, or in any case.
    case search(Search, isUrgent: Bool, comparing: Bool)
    /// Look what has become of the key that opened the store.
    case guardKey(Unlocking)
    case ask([KeyUse])
    case serve(Store, [Request])
    case keepUp(Store)
    case tellAnchor
    case wait(until: Instant?)
    case end
  }

  mutating func nextDuty(now: Instant) -> Duty {
    if case .ended = phase { return .end }
    expire(now: now)
    if queue.isEmpty || !ShellMutant.keysWhenIdle.isOn, let duty = keyDuty(now: now) { return duty }
    if isRunning {
      if let due = upkeep.anchorDue, due <= now {
        upkeep.beginAnchor(now: now)
        return .tellAnchor
      }
      if case .here(let store) = custody, gathering.until == nil {
        if !queue.isEmpty {
          lend(now)
          wasClaimed = false
          return .serve(store, takeBatch(now: now))
        }
        if claims.isEmpty, let due = upkeep.due, due <= now {
          lend(now)
          upkeep.begin()
          return .keepUp(store)
        }
      }
    }
    alarm = nextTime(now: now)
    return .wait(until: alarm)
  }

  private mutating func keyDuty(now: Instant) -> Duty? {
    if watch.isDue(now: now) {
      switch phase {
      case .keyPending(let search), .locked(let search):
        let isUrgent = watch.isUrgent
        let comparing = watch.takeComparison(now: now)
        watch.searched(now: now)
        return .search(search, isUrgent: isUrgent, comparing: comparing)
      case .running(let unlocking):
        watch.guarded(now: now)
        if configuration.keyLossPolicy == .lock, let unlocking { return .guardKey(unlocking) }
      // What comes now is for when the keys are gone.
      case .locking: break
      default: watch.stop()
      }
    }
    guard search != nil, inquiry.isDue(now: now) else { return nil }
    let uses = inquiry.uses
    inquiry.begin()
    return .ask(uses)
  }

  private func nextTime(now: Instant) -> Instant? {
    guard !isClosed else { return nil }
    var due = isRunning ? upkeep.next : nil
    // What is overdue can't be done while somebody has the store, for as long as a device takes to sync: look again
    // later, and not over and over.
    if let time = due { due = max(time, now.advanced(by: Upkeep.pause)) }
    let inquiry = search == nil ? nil : inquiry.next
    var look = watch.next
    if case .locking = phase { look = nil }
    return [look, queue.earliestDeadline, due, inquiry].compactMap { $0 }.min()
  }

  // MARK: Upkeep

  /// Requests were served. True: who served them does a step of upkeep before it gives the store back.
  mutating func noteServed(_ count: Int, _ condition: StoreCondition, now: Instant) -> Bool {
    self.condition = condition
    gathering.noteServed(count, waiting: queue.waiting, from: upkeep.lent, to: now)
    let before = upkeep.next
    let mustStep = upkeep.noteServed(condition, isIdle: isIdle, now: now)
    noteAnchor(condition, now: now)
    // Told once; it looks again by itself as long as the pause is put off.
    if let next = upkeep.next, before.map({ next < $0 }) ?? true { wake(keeper) }
    return mustStep && condition.failure == nil
  }

  /// Nobody wants the store.
  var isIdle: Bool { queue.isEmpty && claims.isEmpty }

  /// The keeper has done a step.
  mutating func keptUp(_ condition: StoreCondition, hasMore: Bool, now: Instant) {
    upkeep.end(condition, hasMore: hasMore, now: now)
    noteAnchor(condition, now: now)
  }

  private mutating func noteAnchor(_ condition: StoreCondition, now: Instant) {
    let failure = upkeep.noteAnchor(condition, within: configuration.longestAnchorInterval, now: now)
    if let failure { tell(.trouble(NVRAMError(failure))) }
  }
}
