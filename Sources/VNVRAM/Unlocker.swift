// Opening a sealed volume with kernel keys, a recovery key or a passphrase, with an account of every step.
//
// Invariants: the record that a key is about to be read is on disk before it is read, and where it can't be written the
// key isn't used; a key's bytes are in `SecretBytes` only, and gone when a call returns; a key that opens the store
// wins over wrong, missing and unusable ones.
//
// Asking again and again, with the same outcome each time, is recorded once and counted (`runs`). What is recorded of a
// key that opens the store never is part of a run.
import Audit
import Crypto
import Keyring
import Primitives
import SecureVolume

/// Unlocks volumes. One for a process; any thread may use it.
public struct Unlocker: Sendable {
  public let audit: AuditLog
  /// Whether `unlock` asks for keys that are in no keyring, by an upcall (`Keyring.ask`).
  public let asksForKeys: Bool
  /// Counts what is recorded over and over; `nil`: everything is written each time.
  let runs: RepeatedRecords?
  /// How often the key that opens the store is compared from then on, for its record to say so; `nil`: never.
  let comparesEvery: Duration?

  public init(audit: AuditLog, asksForKeys: Bool = false) {
    self.init(audit: audit, asksForKeys: asksForKeys, runs: nil, comparesEvery: nil)
  }

  /// For who asks again and again, and watches the key that opened the store.
  package init(audit: AuditLog, asksForKeys: Bool, runs: RepeatedRecords?, comparesEvery: Duration?) {
    self.audit = audit
    self.asksForKeys = asksForKeys
    self.runs = runs
    self.comparesEvery = comparesEvery
  }

  /// Tries the kernel key of every keyring slot, in the slots' order, until one opens the store. Where none does, those
  /// that are in no keyring are asked for, if that is wanted, which takes as long as who answers.
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
    var attempt = try attempt(sealed, .open(anchor), earlier: [], only: only)
    if attempt.gain == nil, asksForKeys {
      let answered = try askAndWait(for: attempt.keys.askable)
      if !answered.isEmpty {
        attempt = try self.attempt(sealed, .open(anchor), earlier: [], only: only, answered: answered)
      }
    }
    guard let volume = attempt.gain?.volume else { throw NVRAMError(attempt.keys.wanted, store: sealed.name) }
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
    let use = KeyUse(sealed: sealed, .open(anchor), slot: nil, name: slotName, kind: key.kind)
    try record(use.record(.askedFor))
    guard let volume = try apply(key, to: sealed, use, slotName: slotName, .open(anchor)).volume else {
      preconditionFailure("what was to be opened is open")
    }
    return volume
  }

  /// Unwraps the store key alone, as `unlock(_:with:slotName:anchor:)` does, for another process that is to open the
  /// store.
  public func unwrap(
    _ sealed: SealedVolume, with key: borrowing KeyEncryptionKey
  ) throws(NVRAMError) -> StoreKeyGrant {
    let use = KeyUse(sealed: sealed, .handOver, slot: nil, name: nil, kind: key.kind)
    try record(use.record(.askedFor))
    guard let grant = try apply(key, to: sealed, use, slotName: nil, .handOver).grant else {
      preconditionFailure("what was to be unwrapped is unwrapped")
    }
    return grant
  }

  // MARK: The keyring

  /// What a key is used for.
  enum Aim {
    /// The store is opened, and compared with its anchor before anything is written.
    case open(AnchorUse?)
    /// The store key is unwrapped for another process.
    case handOver
  }

  /// What a right key gave.
  enum Gain {
    case volume(SecureVolume)
    case grant(StoreKeyGrant)

    var volume: SecureVolume? { if case .volume(let volume) = self { volume } else { nil } }
    var grant: StoreKeyGrant? { if case .grant(let grant) = self { grant } else { nil } }
  }

  /// What came of trying the keyring once.
  struct Attempt {
    /// `nil` where no key opened the store.
    var gain: Gain?
    var keys = KeyOutcome()
  }

  /// A slot's name and what was seen of its key.
  struct SlotSighting: Equatable, Sendable {
    let slot: String
    let sighting: KeySighting
    /// It was tried, and it opened nothing.
    var isWrong = false
    /// What records of it say; `nil` where nothing was tried.
    var use: KeyUse?
  }

  /// Tries every keyring slot once, or that of `only`, but not a key that `earlier` says is wrong and that is still the
  /// same: that is read to be compared, and no more. Keys in `answered` came by asking: a wrong one among them is
  /// dropped, lest it hide a right one in another keyring.
  ///
  /// - Throws: `.noSuchSlot` for an `only` that the image has no slot for.
  func attempt(
    _ sealed: SealedVolume, _ aim: Aim, earlier: [SlotSighting], only: String? = nil,
    answered: Set<KeySerial> = []
  ) throws(NVRAMError) -> Attempt {
    var attempt = Attempt()
    var slots = sealed.slots.filter { $0.kind == .keyring }
    if let only {
      let names = slots.map(\.name)
      slots = slots.filter { $0.name.utf8.elementsEqual(only.utf8) }
      if slots.isEmpty { throw try noSlot(for: only, in: sealed, aim, names) }
    }
    for slot in slots {
      let before = earlier.first { $0.slot == slot.name && $0.isWrong }
      try tryKey(of: slot, in: sealed, aim, earlier: before, &attempt)
      if attempt.gain != nil { break }
    }
    // The inquiry is over. That the count is lacking is no reason to give the store up.
    if attempt.gain != nil { try? runs?.endAll() }
    for (index, seen) in attempt.keys.seen.enumerated() where seen.isWrong {
      guard case .present(let serial, _) = seen.sighting, answered.contains(serial) else { continue }
      try? Keyring.unlink(serial, from: .process)
      attempt.keys.seen[index] = SlotSighting(slot: seen.slot, sighting: .absent(.missing), use: seen.use)
      if let slot = sealed.slots.first(where: { $0.kind == .keyring && $0.name == seen.slot }) {
        attempt.keys.askable.append(KeyUse(sealed: sealed, aim, slot: slot.index, name: slot.name, kind: slot.kind))
      }
    }
    return attempt
  }

  private func noSlot(
    for name: String, in sealed: SealedVolume, _ aim: Aim, _ others: [String]
  ) throws(NVRAMError) -> NVRAMError {
    let has = others.isEmpty ? "none" : others.map { "\"\($0)\"" }.joined(separator: ", ")
    let detail = "has no slot for key \"\(name)\"; those that it has are for: \(has)"
    let use = KeyUse(sealed: sealed, aim, slot: nil, name: name, kind: .keyring)
    try record([use.record(.askedFor), use.record(.missing, status: .notFound, detail)], of: use, .outcome)
    return NVRAMError(
      .noSuchSlot, .notFound, store: sealed.name, detail + "; name one of them, or add it with `vnvram slot add`")
  }

  private func tryKey(
    of slot: SlotDescription, in sealed: SealedVolume, _ aim: Aim, earlier: SlotSighting?,
    _ attempt: inout Attempt
  ) throws(NVRAMError) {
    var use = KeyUse(sealed: sealed, aim, slot: slot.index, name: slot.name, kind: slot.kind)
    let found: FoundKey
    do { found = try Keyring.find(try KeySighting.keyName(of: slot.name)) } catch {
      try endRun(of: use, .reading)
      return try note(error, use, &attempt, after: [use.record(.askedFor)])
    }
    use.serial = found.serial
    let announcement = [use.record(.askedFor), recordOfFound(found, use)]
    // A key that was wrong is read to see whether it still is the same.
    let isKnown = earlier.map { !$0.sighting.differs(from: .unread(found.serial)) } ?? false
    let isRecorded = try record(isKnown ? [use.record(.compared)] : announcement, of: use, .reading)
    let key: SightedKey
    do { key = try SightedKey(reading: found.serial) } catch { return try note(error, use, &attempt) }
    try endRun(of: use, .outcome)
    let sighting = key.sighting
    if sighting != earlier?.sighting {
      if isKnown || !isRecorded {
        try endRun(of: use, .reading)
        try record(announcement)
      }
      attempt.gain = try tryOut(key, on: sealed, use, aim)
    }
    let seen = SlotSighting(slot: slot.name, sighting: sighting, isWrong: attempt.gain == nil, use: use)
    attempt.keys.seen.append(seen)
    if seen.isWrong {
      attempt.keys.wanted.wrong.append(slot.name)
    } else {
      (attempt.keys.opener, attempt.keys.use) = (seen, use)
    }
  }

  /// `nil` where the key is wrong.
  private func tryOut(
    _ key: consuming SightedKey, on sealed: SealedVolume, _ use: KeyUse, _ aim: Aim
  ) throws(NVRAMError) -> Gain? {
    do {
      return try apply(KeyEncryptionKey(.keyring, key.secret), to: sealed, use, slotName: use.name, aim)
    } catch  where error.code == .wrongKey { return nil }
  }

  /// A key that is not there, or that can't be used. What `before` says of it is recorded with that.
  private func note(
    _ error: KeyringError, _ use: KeyUse, _ attempt: inout Attempt, after before: [AuditRecord] = []
  ) throws(NVRAMError) {
    let name = use.name ?? ""
    var seen = SlotSighting(
      slot: name, sighting: use.serial.map { KeySighting(error, reading: $0) } ?? .absent(error.code), use: use)
    switch error.code {
    case .missing: attempt.keys.wanted.missing.append(name)
    case .wrongSize, .wrongType:
      attempt.keys.wanted.wrong.append(name)
      seen.isWrong = true
    default:
      attempt.keys.wanted.unusable.append(
        WantedKeys.UnusableKey(name: name, reason: error.detail, isOfAllKeys: error.isOfAllKeys))
    }
    attempt.keys.seen.append(seen)
    if error.code == .missing || error.code == .expired, KeyName(name) != nil { attempt.keys.askable.append(use) }
    let outcome = use.record(AuditEvent(error.code), status: error.status, error.detail)
    try record(before + [outcome], of: use, .outcome)
  }

  private func recordOfFound(_ found: FoundKey, _ use: KeyUse) -> AuditRecord {
    let permissions = found.description?.permissions.description ?? ""
    let detail = found.isTooWide ? "others than its owner may use it: its permissions are \(permissions)" : nil
    return use.record(.found, detail)
  }

  /// Whether a key is another than when it was tried, or may now be had or not.
  ///
  /// As long as number and size are the same, the kernel doesn't say whether the content is: such a key is read, with
  /// `comparing`, and not without. The read is recorded, and a run of such reads once; where it can't be, nothing is
  /// read, and the key counts as unchanged. A key that was never read is not read here either.
  func hasChanged(_ seen: SlotSighting, comparing: Bool) -> Bool {
    if seen.sighting.differs(from: KeySighting(glancingAt: seen.slot)) { return true }
    guard comparing, case .present(let serial, let before) = seen.sighting, let use = seen.use else { return false }
    do { try record([use.record(.compared)], of: use, .reading) } catch { return false }
    guard let now = try? SightedKey(reading: serial).fingerprint else { return true }
    return now != before
  }

  // MARK: Every way

  /// Uses the key, and records how it went: with the slot that it opened, where it could have been any.
  private func apply(
    _ key: borrowing KeyEncryptionKey, to sealed: SealedVolume, _ use: KeyUse, slotName: String?, _ aim: Aim
  ) throws(NVRAMError) -> Gain {
    var use = use
    let gain: Gain
    do throws(VolumeError) {
      switch aim {
      case .open(let anchor):
        let volume = try sealed.unlock(with: key, slotName: slotName, use: anchor)
        use.note(volume.openedSlot)
        gain = .volume(volume)
      case .handOver:
        let unwrapped = try sealed.storeKey(with: key, slotName: slotName)
        use.note(unwrapped.slot)
        gain = .grant(StoreKeyGrant(unwrapped, use))
      }
    } catch {
      let event: AuditEvent = error.code == .wrongKey ? .wrong : .unwrapped
      try record(use.record(event, status: error.status, error.detail))
      throw NVRAMError(error)
    }
    try record(use.record(.unwrapped, use.kind == .keyring ? detailOfComparing : nil))
    return gain
  }

  /// The one record of all the reads to come.
  private var detailOfComparing: String? {
    comparesEvery.map { "it is read again every \($0), to see that it is the same, for as long as the store is open" }
  }

  // MARK: Records

  func record(_ record: AuditRecord) throws(NVRAMError) { try self.record([record]) }

  private func record(_ records: [AuditRecord]) throws(NVRAMError) {
    do { try audit.record(records) } catch { throw NVRAMError(error, store: records.first?.store ?? "") }
  }

  /// What is recorded of a key in runs, each by itself.
  enum Run: String {
    /// That it is about to be read.
    case reading
    /// That it can't be had.
    case outcome
    /// That it is asked for, and what came of it.
    case asking, answer
  }

  /// Writes records that may be the same as last time, or counts them. Returns whether they were written.
  @discardableResult
  func record(_ records: [AuditRecord], of use: KeyUse, _ run: Run) throws(NVRAMError) -> Bool {
    do {
      if let runs { return try runs.record(records, of: topic(use, run)) }
      try audit.record(records)
      return true
    } catch { throw NVRAMError(error, store: use.store) }
  }

  func endRun(of use: KeyUse, _ run: Run) throws(NVRAMError) {
    do { try runs?.end(topic(use, run)) } catch { throw NVRAMError(error, store: use.store) }
  }

  private func topic(_ use: KeyUse, _ run: Run) -> String {
    "\(run.rawValue) \(use.name ?? "") \(use.store)"
  }
}

/// What was found out of the kernel keys of a store when it was tried to be opened.
struct KeyOutcome: Sendable {
  /// Of each slot's key, those after the one that opened left out.
  var seen: [Unlocker.SlotSighting] = []
  /// The slot that opened it, and what was seen of its key.
  var opener: Unlocker.SlotSighting?
  /// The use of that key.
  var use: KeyUse?
  var wanted = WantedKeys()
  /// The keys that asking could bring: in no keyring, or expired.
  var askable: [KeyUse] = []
}

/// What the records of one use of a key have in common.
struct KeyUse: Equatable, Sendable {
  let store: String
  /// `nil` for a store that is to be made.
  let uuid: StoreUUID?
  private(set) var slot: Int?
  private(set) var name: String?
  let kind: SlotKind
  let access: AuditRecord.Access
  var serial: KeySerial?

  init(sealed: SealedVolume, _ aim: Unlocker.Aim, slot: Int?, name: String?, kind: SlotKind) {
    store = sealed.name
    uuid = sealed.uuid
    self.slot = slot
    self.name = name
    self.kind = kind
    // Who is handed the store key opens the image for writing.
    if case .handOver = aim { access = .write } else { access = sealed.isWritable ? .write : .read }
  }

  /// Of a kernel key that a new store is to open with.
  init(store: String, name: String) {
    self.store = store
    uuid = nil
    slot = nil
    self.name = name
    kind = .keyring
    access = .write
  }

  /// The slot that it opened.
  mutating func note(_ opened: SlotDescription?) {
    guard let opened else { return }
    (slot, name) = (opened.index, opened.name)
  }

  func record(_ event: AuditEvent, status: Status = .done, _ detail: String? = nil) -> AuditRecord {
    AuditRecord(
      event, store: store, uuid: uuid, key: name, kind: kind.label, slot: slot, serial: serial?.value, access: access,
      status: status, detail: detail)
  }
}

extension AuditEvent {
  /// The event that tells of a key that can't be had.
  init(_ code: KeyringError.Code) {
    switch code {
    case .missing: self = .missing
    case .expired: self = .expired
    case .revoked: self = .revoked
    case .wrongSize, .wrongType, .changed: self = .wrong
    default: self = .denied
    }
  }
}
