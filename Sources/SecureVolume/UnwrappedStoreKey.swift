import Primitives

/// What a slot gave up: the store key, the store that it is of by its header copy, and the slot.
struct Unwrapped: ~Copyable {
  let storeKey: SecretBytes
  let uuid: StoreUUID
  let slot: SlotDescription?
}

/// A store key for a process that opens the store with it alone (`SealedVolume.unlock(withStoreKey:of:use:)`), from one
/// that has the key-encryption keys. The header was verified with it.
public struct UnwrappedStoreKey: ~Copyable {
  /// 32 bytes.
  public let storeKey: SecretBytes
  public let uuid: StoreUUID
  /// The slot that gave it up.
  public let slot: SlotDescription?
  /// Tells this store's anchor records from others.
  public let verifier: AnchorVerifier

  init(_ unwrapped: consuming Unwrapped, _ verifier: AnchorVerifier) {
    uuid = unwrapped.uuid
    slot = unwrapped.slot
    storeKey = unwrapped.storeKey.copy()
    self.verifier = verifier
  }
}
