// Opening a sealed volume with kernel keys, a recovery key or a passphrase, with an account of every step.
//
// Invariants: the record that a key is about to be used is on disk before it is used, and where it can't be written the
// key isn't used; a key's bytes are in `SecretBytes` only, and gone when a call returns; a key that opens the store wins
// over wrong, missing and unusable ones.
import Audit
import Crypto
import Keyring
import Primitives
import SecureVolume

/// Unlocks volumes. One for a process; any thread may use it.
public struct Unlocker: Sendable {
  public let audit: AuditLog

  public init(audit: AuditLog) { self.audit = audit }

  /// Tries the kernel key of every keyring slot, in the slots' order, until one opens the store.
  ///
  /// What the device is open for, the volume is; see `SealedVolume.unlock` for what is recovered and durable.
  ///
  /// - Parameters:
  ///   - only: the name of the only slot that counts.
  ///   - anchor: what the image is compared with before anything is written.
  /// - Throws: where none opens it, `.wrongKey`, `.keyUnusable` or `.keyMissing`, with `keys` naming every one;
  ///   `.audit`; `.volume` where a key was right and the image is not, or its anchor says that it is old; `.noSuchSlot` for
  ///   an `only` that the image has no slot for.
  public func unlock(
    _ sealed: SealedVolume, only: String? = nil, anchor: AnchorUse? = nil
  ) throws(NVRAMError) -> SecureVolume {
    let attempt = try attempt(sealed, anchor, earlier: [], only: only)
    guard let volume = attempt.volume else { throw NVRAMError(attempt.wanted, store: sealed.name) }
    return volume
  }

  /// Unlocks with a recovery key, a passphrase, or a kernel key that the caller has read.
  ///
  /// - Parameters:
  ///   - slotName: try only the slot of this name; a passphrase costs its time for each that it is tried on.
  ///   - anchor: what the image is compared with before anything is written.
  /// - Throws: `.wrongKey`; `.audit`, and then the key was not used; `.volume`.
  public func unlock(
    _ sealed: SealedVolume, with key: borrowing KeyEncryptionKey, slotName: String? = nil, anchor: AnchorUse? = nil
  ) throws(NVRAMError) -> SecureVolume {
    let use = KeyUse(sealed: sealed, slot: nil, name: slotName, kind: key.kind)
    try record(use.record(.askedFor))
    return try open(sealed, with: key, use, slotName: slotName, anchor)
  }

  // MARK: The keyring

  /// What came of trying the keyring once.
  struct Attempt {
    /// `nil` where no key opened the store.
    var volume: SecureVolume?
    /// The slot that opened it, and what was seen of its key.
    var opened: SlotSighting?
    /// What was seen of each slot's key, those after the one that opened left out.
    var seen: [SlotSighting] = []
    var wanted = WantedKeys()
  }

  /// A slot's name and what was seen of its key.
  struct SlotSighting: Equatable, Sendable {
    let slot: String
    let sighting: KeySighting
    /// It was tried, and it opened nothing.
    var isWrong = false
  }

  /// Tries every keyring slot once, or that of `only`, but not a key that `earlier` says is wrong and that is still the
  /// same.
  ///
  /// - Throws: `.noSuchSlot` for an `only` that the image has no slot for.
  func attempt(
    _ sealed: SealedVolume, _ anchor: AnchorUse?, earlier: [SlotSighting], only: String? = nil
  ) throws(NVRAMError) -> Attempt {
    var attempt = Attempt()
    var slots = sealed.slots.filter { $0.kind == .keyring }
    if let only {
      let names = slots.map(\.name)
      slots = slots.filter { $0.name.utf8.elementsEqual(only.utf8) }
      if slots.isEmpty { throw try noSlot(for: only, in: sealed, names) }
    }
    for slot in slots {
      let before = earlier.first { $0.slot == slot.name && $0.isWrong }
      try tryKey(of: slot, in: sealed, anchor, earlier: before, &attempt)
      if attempt.volume != nil { break }
    }
    return attempt
  }

  private func noSlot(for name: String, in sealed: SealedVolume, _ others: [String]) throws(NVRAMError) -> NVRAMError {
    let has = others.isEmpty ? "none" : others.map { "\"\($0)\"" }.joined(separator: ", ")
    let detail = "has no slot for key \"\(name)\"; those that it has are for: \(has)"
    let use = KeyUse(sealed: sealed, slot: nil, name: name, kind: .keyring)
    try record(use.record(.askedFor))
    try record(use.record(.missing, status: .notFound, detail))
    return NVRAMError(
      .noSuchSlot, .notFound, store: sealed.name, detail + "; name one of them, or add it with `vnvram slot add`")
  }

  private func tryKey(
    of slot: SlotDescription, in sealed: SealedVolume, _ anchor: AnchorUse?, earlier: SlotSighting?,
    _ attempt: inout Attempt
  ) throws(NVRAMError) {
    var use = KeyUse(sealed: sealed, slot: slot.index, name: slot.name, kind: slot.kind)
    try record(use.record(.askedFor))
    let name: KeyName
    let found: FoundKey
    do {
      name = try KeySighting.keyName(of: slot.name)
      found = try Keyring.find(name)
    } catch { return try note(error, use, &attempt) }
    use.serial = found.serial
    try recordFound(found, use)
    let key: SightedKey
    do { key = try SightedKey(reading: found.serial, name: name) } catch { return try note(error, use, &attempt) }
    let sighting = key.sighting
    if SlotSighting(slot: slot.name, sighting: sighting, isWrong: true) != earlier {
      attempt.volume = try unlock(sealed, with: key, use, anchor)
    }
    let seen = SlotSighting(slot: slot.name, sighting: sighting, isWrong: attempt.volume == nil)
    attempt.seen.append(seen)
    if seen.isWrong { attempt.wanted.wrong.append(slot.name) } else { attempt.opened = seen }
  }

  /// `nil` where the key is wrong.
  private func unlock(
    _ sealed: SealedVolume, with key: consuming SightedKey, _ use: KeyUse, _ anchor: AnchorUse?
  ) throws(NVRAMError) -> SecureVolume? {
    do {
      return try open(sealed, with: KeyEncryptionKey(.keyring, key.secret), use, slotName: use.name, anchor)
    } catch  where error.code == .wrongKey { return nil }
  }

  /// A key that is not there, or that can't be used.
  private func note(
    _ error: KeyringError, _ use: KeyUse, _ attempt: inout Attempt
  ) throws(NVRAMError) {
    let name = use.name ?? ""
    var seen = SlotSighting(
      slot: name, sighting: use.serial.map { KeySighting(error, reading: $0) } ?? .absent(error.code))
    switch error.code {
    case .missing: attempt.wanted.missing.append(name)
    case .wrongSize, .wrongType:
      attempt.wanted.wrong.append(name)
      seen.isWrong = true
    default: attempt.wanted.unusable.append(WantedKeys.UnusableKey(name: name, reason: error.detail))
    }
    attempt.seen.append(seen)
    try record(use.record(AuditEvent(error.code), status: error.status, error.detail))
  }

  private func recordFound(_ found: FoundKey, _ use: KeyUse) throws(NVRAMError) {
    let permissions = found.description?.permissions.description ?? ""
    let detail = found.isTooWide ? "others than its owner may use it: its permissions are \(permissions)" : nil
    try record(use.record(.found, detail))
  }

  // MARK: Every way

  /// Unlocks, and records how it went.
  private func open(
    _ sealed: SealedVolume, with key: borrowing KeyEncryptionKey, _ use: KeyUse, slotName: String?,
    _ anchor: AnchorUse?
  ) throws(NVRAMError) -> SecureVolume {
    let volume: SecureVolume
    do { volume = try sealed.unlock(with: key, slotName: slotName, use: anchor) } catch {
      let event: AuditEvent = error.code == .wrongKey ? .wrong : .unwrapped
      try record(use.record(event, status: error.status, error.detail))
      throw NVRAMError(error)
    }
    try record(use.record(.unwrapped))
    return volume
  }

  private func record(_ record: AuditRecord) throws(NVRAMError) {
    do { try audit.record(record) } catch { throw NVRAMError(error, store: record.store ?? "") }
  }
}

/// What the records of one use of a key have in common.
struct KeyUse {
  let store: String
  let uuid: StoreUUID
  let slot: Int?
  let name: String?
  let kind: SlotKind
  var serial: KeySerial?

  init(sealed: SealedVolume, slot: Int?, name: String?, kind: SlotKind) {
    store = sealed.name
    uuid = sealed.uuid
    self.slot = slot
    self.name = name
    self.kind = kind
  }

  func record(_ event: AuditEvent, status: Status = .done, _ detail: String? = nil) -> AuditRecord {
    AuditRecord(
      event, store: store, uuid: uuid, key: name, kind: kind.label, slot: slot, serial: serial?.value, status: status,
      detail: detail)
  }
}

extension AuditEvent {
  /// The event that tells of a key that can't be had.
  init(_ code: KeyringError.Code) {
    switch code {
    case .missing: self = .missing
    case .expired: self = .expired
    case .revoked: self = .revoked
    case .wrongSize, .wrongType: self = .wrong
    default: self = .denied
    }
  }
}
