import Audit
import Keyring
import Primitives

// Asking for keys that are in no keyring, with an account of it.
extension Unlocker {
  /// Asks for keys one after the other, until one is there: any one of them opens the store. Only for a thread that was
  /// started for this, after `Keyring.prepareToAsk`; it takes as long as who answers.
  ///
  /// - Returns: the keys that came; no error says that none did, but the record of uses does.
  /// - Throws: `.audit`, and then the key wasn't asked for.
  func ask(for uses: [KeyUse]) throws(NVRAMError) -> Set<KeySerial> {
    for var use in uses {
      guard let name = use.name.flatMap({ KeyName($0) }) else { continue }
      use.serial = nil
      try record([use.record(.askedFor, "in no keyring; through /sbin/request-key")], of: use, .asking)
      let serial: KeySerial
      do { serial = try Keyring.ask(name) } catch {
        try record([use.record(AuditEvent(error.code), status: error.status, error.detail)], of: use, .answer)
        continue
      }
      for run in [Run.asking, .answer] { try endRun(of: use, run) }
      return [serial]
    }
    return []
  }

  /// The same on any thread, which waits.
  func askAndWait(for uses: [KeyUse]) throws(NVRAMError) -> Set<KeySerial> {
    guard !uses.isEmpty else { return [] }
    // Barred keyrings: asking will say so.
    try? Keyring.prepareToAsk()
    let outcome = Outcome()
    do {
      let thread = try SystemThread.start {
        let result = Result { () throws(NVRAMError) in try ask(for: uses) }
        outcome.result.withLock { $0 = result }
      }
      SystemThread.join(thread)
    } catch {
      throw NVRAMError(error, store: uses[0].store)
    }
    return try outcome.result.withLock { $0 }.get()
  }

  private final class Outcome: Sendable {
    let result = Locked<Result<Set<KeySerial>, NVRAMError>>(.success([]))
  }
}
