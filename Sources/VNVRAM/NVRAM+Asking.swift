import Keyring
import Primitives

// Asking for keys while the store waits for one. It is done on a thread of its own, which nobody waits for: who answers may
// take his time, and meanwhile everything else goes on, `close` included.
extension NVRAM {
  /// What an opening in vain wants, with what is asked for now because of it. With the lock.
  func asking(_ s: NVRAMShared, for opening: Opening) -> WantedKeys {
    var wanted = opening.wanted
    s.inquiry.forbid(opening.seen.filter(\.sighting.isRevoked).map(\.slot))
    s.inquiry.want(opening.askable)
    wanted.asking = s.inquiry.open
    return wanted
  }

  /// By the worker, with the lock.
  func startAsking(_ s: NVRAMShared) {
    let uses = s.inquiry.uses
    s.inquiry.begin()
    do { try WorkerThread { self.ask(for: uses) }.detach() } catch {
      finishAsking(
        s, .failure(NVRAMError(.noThread, .failed, store: name, "the system gives no thread (error \(error.errno))")))
    }
  }

  private func ask(for uses: [KeyUse]) {
    let result = Result { () throws(NVRAMError) in try unlocker.ask(for: uses) }
    monitor.withLock { finishAsking($0, result) }
  }

  private func finishAsking(_ s: NVRAMShared, _ result: Result<Set<KeySerial>, NVRAMError>) {
    guard s.isOpen else { return }
    let answered = (try? result.get()) ?? []
    s.inquiry.end(answered, now: .now)
    if !answered.isEmpty, s.state.isWaiting {
      s.watch.hurry()
    } else {
      showAsking(s)
    }
    if case .failure(let error) = result { s.tell(.trouble(error)) }
    s.workerHasWork.signal()
  }

  /// Has the state say what is asked for. With the lock.
  func showAsking(_ s: NVRAMShared) {
    guard var wanted = s.state.wanted, wanted.asking != s.inquiry.open else { return }
    wanted.asking = s.inquiry.open
    if case .locked = s.state { s.become(.locked(wanted)) } else { s.become(.keyPending(wanted)) }
  }

  /// Whether a key is looked for or asked for just now: what the state says of missing keys may change in a moment.
  public var isLookingForKeys: Bool {
    monitor.withLock { s in
      s.state == .verifying || s.state.wanted != nil && (s.watch.isUrgent || !s.inquiry.open.isEmpty)
    }
  }
}
