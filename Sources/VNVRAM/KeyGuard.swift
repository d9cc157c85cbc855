// What becomes of the key that opened a store, while the store runs (policy `lock`).
//
// Decision: the key is read at each check, and its fingerprint compared. The kernel numbers no versions of a key, so
// that other content of the same size shows in no other way; KEYCTL_WATCH_KEY would say it, where the kernel has that.
// The reads go on for as long as the store is open; they are recorded once, in the detail of the record that the key
// opened it (`Unlocker.comparesEvery`), and not one by one.
import Crypto
import Keyring
import Primitives

/// Watches one key. Belongs to one thread: what a key's reader may do hangs on the thread.
struct KeyGuard: Sendable {
  private let serial: KeySerial
  private let fingerprint: KeyFingerprint
  /// Whether this thread could read it. A key in the thread keyring of the thread that opened the store is no loss only
  /// because this one doesn't come to it.
  private var isWithinReach = false

  /// `nil` for what is no key that was read.
  init?(_ sighting: KeySighting) {
    guard case .present(let serial, let fingerprint) = sighting else { return nil }
    (self.serial, self.fingerprint) = (serial, fingerprint)
  }

  /// Why the key is there no more: it is missing, expired, revoked, not permitted any more, or has another content,
  /// size or type. `nil` while it is there, or while that can't be told.
  ///
  /// The key's number is asked for, not its name: that another key of the name has come doesn't matter.
  mutating func loss() -> KeyringError? {
    let now: KeyFingerprint
    do { now = try SightedKey(reading: serial).fingerprint } catch {
      switch error.code {
      case .denied: return denial(error)
      case .missing, .expired, .revoked, .wrongSize, .wrongType: return error
      default: return nil
      }
    }
    isWithinReach = true
    guard now != fingerprint else { return nil }
    return KeyringError(
      .changed, key: serial.description, "has other content than when it opened the store; load it again as it was")
  }

  /// Of a key that may be read by who possesses it, only possession can have gone: it was unlinked from all keyrings
  /// that this process comes to, and is in somebody else's, or about to be swept away.
  private func denial(_ error: KeyringError) -> KeyringError? {
    let permissions = (try? Keyring.describe(serial))?.permissions ?? []
    guard permissions.letPossessorRead else { return error }
    guard isWithinReach else { return nil }
    return KeyringError(.missing, key: error.key, "is in none of the keyrings of this process and its user any more")
  }
}

extension Unlocker.SlotSighting {
  /// What is taken to have been seen of these slots' keys when one of them is lost: another key that is there counts as
  /// new, and opens the store at once.
  static func all(
    _ slots: [String], afterLosing lost: String, _ loss: KeyringError, earlier: [Unlocker.SlotSighting]
  ) -> [Unlocker.SlotSighting] {
    slots.map { name in
      name == lost
        ? Unlocker.SlotSighting(slot: name, sighting: .absent(loss.code))
        : earlier.first { $0.slot == name } ?? Unlocker.SlotSighting(slot: name, sighting: .absent(.missing))
    }
  }
}

extension WantedKeys {
  /// What a store waits for that lost its key.
  init(lost slot: String, _ loss: KeyringError) {
    self.init()
    switch loss.code {
    case .missing: missing = [slot]
    case .changed, .wrongSize, .wrongType: wrong = [slot]
    default: unusable = [.init(name: slot, reason: loss.detail)]
    }
  }
}
