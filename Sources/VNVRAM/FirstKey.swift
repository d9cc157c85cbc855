import Audit
import Crypto
import Keyring
import Primitives
import SecureVolume

/// A kernel key that a new store is to open with, and the record of its use so far: that it was asked for and found is
/// recorded before its bytes are read.
struct FirstKey: ~Copyable {
  let key: KeyEncryptionKey
  let use: AuditRecord

  /// - Parameter asks: whether a key that is in no keyring is asked for, which takes as long as who answers.
  /// - Throws: `.keyMissing`, `.keyUnusable`, `.wrongKey` for one that hasn't 32 bytes; `.audit`.
  init(
    named name: String, for store: String, _ audit: AuditLog, purpose: String, asks: Bool = false
  ) throws(NVRAMError) {
    var use = AuditRecord(
      .askedFor, store: store, key: name, kind: SlotKind.keyring.label, access: .write, detail: purpose)
    try audit.note(use, store)
    let serial: KeySerial
    do { serial = try Keyring.find(try KeySighting.keyName(of: name)).serial } catch {
      let failure = try Self.recorded(error, use, audit)
      let isAskable = error.code == .missing || error.code == .expired
      guard asks, isAskable, let found = try Self.ask(use, audit) else { throw failure }
      serial = found
    }
    use.serial = serial.value
    use.event = .found
    try audit.note(use, store)
    let secret: SecretBytes
    do { secret = try Keyring.read(serial, expecting: 32) } catch { throw try Self.recorded(error, use, audit) }
    key = KeyEncryptionKey(.keyring, secret)
    self.use = use
  }

  private static func ask(_ use: AuditRecord, _ audit: AuditLog) throws(NVRAMError) -> KeySerial? {
    let unlocker = Unlocker(audit: audit, asksForKeys: true)
    return try unlocker.askAndWait(for: [KeyUse(store: use.store ?? "", name: use.key ?? "")]).first
  }

  private static func recorded(
    _ error: KeyringError, _ use: AuditRecord, _ audit: AuditLog
  ) throws(NVRAMError) -> NVRAMError {
    var use = use
    (use.event, use.status, use.detail) = (AuditEvent(error.code), error.status, error.detail)
    try audit.note(use, use.store ?? "")
    return NVRAMError(error, store: use.store ?? "")
  }
}

extension AuditLog {
  /// As `record`, with the error of an NVRAM.
  func note(_ record: AuditRecord, _ store: String) throws(NVRAMError) {
    do { try self.record(record) } catch { throw NVRAMError(error, store: store) }
  }
}
