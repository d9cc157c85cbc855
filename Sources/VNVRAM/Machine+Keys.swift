import Keyring
import Primitives

// From closed to running and back: what comes of keys that were tried, lost, asked for, given.
extension Machine {
  // MARK: Starting

  func checkStart() throws(NVRAMError) {
    guard !isClosed else { throw closed }
    switch phase {
    case .closed, .unformatted: break
    default: throw NVRAMError(.started, .failed, store: name, "was started already")
    }
  }

  mutating func noteStartFailed(_ error: NVRAMError) {
    switch error.code {
    case .unformatted: become(.unformatted)
    case .keyMissing, .keyUnusable, .wrongKey, .noSuchSlot, .noThread: break
    // Nothing is wrong with the store: it may be started once the reason is gone.
    case _ where [.auditFailed, .refused, .notAnImage].contains(error.status): break
    default: fail(error)
    }
  }

  func checkFormat() throws(NVRAMError) {
    guard !isClosed else { throw closed }
    switch phase {
    case .closed, .unformatted: break
    default: throw NVRAMError(.started, .refused, store: name, "is \(state.name); close it before it is formatted")
    }
  }

  mutating func noteFormatted() {
    if case .unformatted = phase { become(.closed) }
  }

  func checkUnlock() throws(NVRAMError) {
    guard !isClosed else { throw closed }
    guard waitsForKey else { throw NVRAMError(.started, .failed, store: name, "waits for no key") }
  }

  // MARK: Opened, or not

  /// The store is open, and goes on from that condition.
  mutating func run(
    _ keys: KeyOutcome, _ condition: StoreCondition, now: Instant, mismatch: (RegisteredEntry) -> EntryMismatch?
  ) throws(NVRAMError) {
    guard !isClosed else { throw closed }
    self.condition = condition
    inquiry.settle()
    watch.startGuard(now: now)
    let number = nextTurn()
    become(
      .running(
        keys.opener.map { Unlocking(sighting: $0, use: keys.use, seen: keys.seen, number: number) }))
    let mismatches = entries.compactMap(mismatch)
    if !mismatches.isEmpty { tell(.mismatched(mismatches)) }
  }

  /// No key opened it.
  mutating func waitForKey(_ keys: KeyOutcome, now: Instant) throws(NVRAMError) {
    guard !isClosed else { throw closed }
    var wanted = keys.wanted
    inquiry.forbid(keys.seen.filter(\.sighting.isRevoked).map(\.slot))
    inquiry.want(keys.askable)
    wanted.asking = inquiry.open
    let search = Search(wanted: wanted, seen: keys.seen, number: nextTurn())
    become(wasLocked ? .locked(search) : .keyPending(search))
    watch.startSearch(now: now)
  }

  private var wasLocked: Bool {
    switch phase {
    case .locked, .verifying(_, wasLocked: true): true
    default: false
    }
  }

  // MARK: Verifying

  /// Whether keys may be tried yet; if not they are when it is time.
  mutating func mayTry(now: Instant) -> Bool {
    guard watch.mayTry(now: now) else {
      watch.hurry()
      return false
    }
    watch.tried(now: now)
    return true
  }

  /// What the keys are tried for now, if that is what they were to be tried for.
  mutating func beginVerifying(_ number: UInt64) -> Search? {
    guard let search, search.number == number else { return nil }
    become(.verifying(search, wasLocked: wasLocked))
    return search
  }

  mutating func noteVerificationFailed(_ error: NVRAMError) {
    guard case .verifying(let search, let wasLocked) = phase else { return }
    guard error.code == .audit else { return fail(error) }
    // The key was not used. It is tried again when the record can be written.
    become(wasLocked ? .locked(search) : .keyPending(search))
    showAsking()
    tell(.trouble(error))
  }

  mutating func poke() {
    watch.hurry()
    inquiry.hurry()
    showAsking()
    wake(keeper)
  }

  // MARK: Locking

  /// Whether the key that was lost is the one that opened the store which runs.
  mutating func noteLoss(of unlocking: Unlocking, _ loss: KeyringError) -> Bool {
    guard case .running(let now) = phase, now?.number == unlocking.number else { return false }
    if loss.code == .missing || loss.code == .expired, let use = unlocking.use {
      inquiry.want([use])
    } else {
      inquiry.forbid()
    }
    return true
  }

  /// Whether there is anything to be locked because somebody asked for it. Who wanted keys to be looked for before
  /// that, or asked for, doesn't any more.
  mutating func prepareLock() throws(NVRAMError) -> Bool {
    guard !isClosed else { throw closed }
    guard isRunning else { return false }
    inquiry.forbid()
    watch.forgetHurry()
    return true
  }

  /// - Returns: the key that opened it.
  mutating func beginLock(_ search: Search) -> Unlocking? {
    guard case .running(let unlocking) = phase else { return nil }
    become(.locking(search))
    return unlocking
  }

  /// The keys are gone.
  ///
  /// - Parameter failure: why the image could not be closed cleanly.
  mutating func endLock(_ failure: NVRAMError?, now: Instant) {
    guard case .locking(let search) = phase else { return }
    if let failure, !failure.isDurable { return fail(failure) }
    var numbered = search
    numbered.number = nextTurn()
    become(.locked(numbered))
    showAsking()
    watch.startSearch(now: now)
    if let failure { tell(.trouble(failure)) }
  }

  // MARK: Asking

  mutating func endAsking(_ result: Result<Set<KeySerial>, NVRAMError>, now: Instant) {
    guard !isClosed else { return }
    let answered = (try? result.get()) ?? []
    inquiry.end(answered, now: now)
    if !answered.isEmpty, waitsForKey { watch.hurry() } else { showAsking() }
    if case .failure(let error) = result { tell(.trouble(error)) }
    wake(keeper)
  }

  /// Has the state say what is asked for.
  private mutating func showAsking() {
    guard var search, search.wanted.asking != inquiry.open else { return }
    search.wanted.asking = inquiry.open
    become(wasLocked ? .locked(search) : .keyPending(search))
  }

  /// Whether a key is looked for or asked for just now.
  var isLookingForKeys: Bool {
    if case .verifying = phase { return true }
    return search != nil && (watch.isUrgent || !inquiry.open.isEmpty)
  }

  // MARK: Closing

  /// Whether the caller is the one that closes it.
  mutating func beginClose() -> Bool {
    guard !isClosed else { return false }
    watch.stop()
    phase = .closing(state)
    wake(keeper)
    failQueue(NVRAMError(.closed, .failed, store: name, "was closed while the request waited"))
    return true
  }

  /// The device is closed.
  mutating func endClose() {
    let before = state
    phase = .ended
    if before != .closed { tell(.state(.closed)) }
    wake([keeper, teller] + closing)
  }

  /// Whether nothing of it goes on any more, but for what `thread` itself does. If not, `parker` is woken when that may
  /// be.
  mutating func isQuiet(for thread: Threads.ID, _ parker: Parker) -> Bool {
    if isInside(thread) || ShellMutant.closeEarly.isOn { return true }
    if case .ended = phase, workers.count == 0, inCallbacks.isEmpty { return true }
    if !closing.contains(where: { $0 === parker }) { closing.append(parker) }
    return false
  }

  /// The NVRAM's threads, for who is to wait for their end: the first who asks.
  mutating func takeJoinable() -> [Threads.ID] {
    defer { workers.joinable = [] }
    return workers.joinable
  }

  /// One of the NVRAM's threads has nothing to do any more.
  mutating func endWorker(_ thread: Threads.ID) {
    if workers.teller == thread { workers.teller = nil }
    workers.count -= 1
    wake(closing)
  }
}
