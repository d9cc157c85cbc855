import BlockIO
import Keyring
import Primitives
import SecureVolume

// The NVRAM's two threads. The keeper looks after keys, serves what nobody waits for, and does the upkeep; it runs
// nobody else's code. The teller calls completions and observers, and does nothing else: one that blocks keeps neither
// a lost key from locking the store, nor anybody's requests.
extension NVRAM {
  /// Has both run, if they don't yet. They inherit the keyrings of the calling thread, which has the store.
  func startWorkers() throws(NVRAMError) {
    do throws(SystemThread.Failure) {
      if change({ !$0.workers.hasTeller }) {
        try startWorker { self.tellAll() }
        change { $0.workers.hasTeller = true }
      }
      if change({ !$0.workers.hasKeeper }) {
        try startWorker { self.keep() }
        change { $0.workers.hasKeeper = true }
      }
    } catch {
      throw NVRAMError(error, store: name)
    }
  }

  private func startWorker(_ body: @escaping @Sendable () -> Void) throws(SystemThread.Failure) {
    let thread = try threads.start {
      body()
      self.change { $0.endWorker(self.threads.current) }
    }
    change {
      $0.workers.joinable.append(thread)
      $0.workers.count += 1
    }
  }

  // MARK: The teller

  private func tellAll() {
    change { $0.workers.teller = threads.current }
    while true {
      switch change({ $0.nextToTell() }) {
      case .event(let event, let observers): for observer in observers { observer(event) }
      case .completion(let request):
        request.completion?(request)
        change { $0.told(request) }
        // What they hold is let go here: who served the request may have it for some time yet.
        (request.completion, request.entry) = (nil, nil)
      case .wait: teller.park()
      case .end: return
      }
    }
  }

  // MARK: The keeper

  private func keep() {
    // It stays on this thread: what may be done with a key hangs on the thread.
    var keyGuard: (opening: UInt64, KeyGuard?) = (0, nil)
    while true {
      switch change({ $0.nextDuty(now: threads.now) }) {
      case .search(let search, let isUrgent, let comparing):
        if isUrgent || search.seen.contains(where: { unlocker.hasChanged($0, comparing: comparing) }) {
          tryKeys(search)
        }
      case .guardKey(let unlocking):
        if keyGuard.opening != unlocking.number { keyGuard = (unlocking.number, KeyGuard(unlocking.sighting.sighting)) }
        if let loss = keyGuard.1?.loss() { lockAfterLosing(unlocking, loss) }
      case .ask(let uses): startAsking(for: uses)
      case .serve(let store, let batch): serve(store, batch)
      case .keepUp(let store): keepUp(store, goesOn: true)
      case .tellAnchor: withStore(at: keeper) { $0.core?.volume?.requestAnchor() }
      case .wait(let until): keeper.park(until: until)
      case .end: return
      }
    }
  }

  /// Tries every key, now that one is another than when it was tried last.
  private func tryKeys(_ search: Machine.Search) {
    guard change({ $0.mayTry(now: threads.now) }) else { return }
    withStore(at: keeper) { store in
      guard let search = change({ $0.beginVerifying(search.number) }) else { return }
      let answered = change { $0.inquiry.answered }
      do throws(NVRAMError) {
        try settle(store, try open(store, earlier: search.seen, answered: answered))
      } catch { change { $0.noteVerificationFailed(error) } }
    }
  }

  /// The key that opened the store is no longer to be had.
  private func lockAfterLosing(_ unlocking: Machine.Unlocking, _ loss: KeyringError) {
    withStore(at: keeper) { store in
      guard change({ $0.noteLoss(of: unlocking, loss) }) else { return }
      let slot = unlocking.sighting.slot
      let seen = Unlocker.SlotSighting.all(watchedKeys(store), afterLosing: slot, loss, earlier: unlocking.seen)
      let search = Machine.Search(wanted: WantedKeys(lost: slot, loss), seen: seen)
      try? lock(store, search, because: "key \"\(slot)\" \(loss.detail)")
    }
  }

  // MARK: Asking

  /// Asking is done on a thread of its own, which nobody waits for: who answers may take his time, and meanwhile
  /// everything else goes on, `close` included.
  private func startAsking(for uses: [KeyUse]) {
    do {
      let thread = try threads.start {
        let result = Result { () throws(NVRAMError) in try self.unlocker.ask(for: uses) }
        self.change { $0.endAsking(result, now: self.threads.now) }
      }
      threads.detach(thread)
    } catch {
      let failure = NVRAMError(error, store: name)
      change { $0.endAsking(.failure(failure), now: threads.now) }
    }
  }
}
