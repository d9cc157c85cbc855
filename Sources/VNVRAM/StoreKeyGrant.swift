import Audit
import Primitives
import SecureVolume

/// A store key for another process, with what is needed to keep the record of its use and the store's anchor here.
public final class StoreKeyGrant {
  public let uuid: StoreUUID
  /// Nil once nobody needs it: it has one of the store's keys.
  public private(set) var verifier: AnchorVerifier?
  private var storeKey: SecretBytes?
  private let use: KeyUse

  init(_ unwrapped: consuming UnwrappedStoreKey, _ use: KeyUse) {
    uuid = unwrapped.uuid
    verifier = unwrapped.verifier
    self.use = use
    storeKey = unwrapped.storeKey.copy()
  }

  /// The store key, once: from then on it isn't here any more.
  public func takeStoreKey() -> SecretBytes? {
    var taken: SecretBytes?
    swap(&taken, &storeKey)
    return taken
  }

  /// There is no anchor: wipes the key that tells its records.
  public func dropVerifier() { verifier = nil }

  /// A record of what becomes of it, which names store, slot and key.
  public func record(_ event: AuditEvent, status: Status = .done, _ detail: String? = nil) -> AuditRecord {
    use.record(event, status: status, detail)
  }
}
