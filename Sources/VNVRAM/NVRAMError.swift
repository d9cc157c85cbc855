import Audit
import BlockIO
import Keyring
import Primitives
import SecureVolume

/// What can go wrong with an NVRAM. Equality is on the code; the rest is for people.
public struct NVRAMError: StatusError, Equatable {
  public enum Code: Sendable, Equatable {
    /// No key that opens the store is there. `keys` names every one.
    case keyMissing
    /// A key is there and opens nothing in this store.
    case wrongKey
    /// A key is there, and it has expired, was revoked or may not be read.
    case keyUnusable
    /// The record of key uses could not be written; the key was not used.
    case audit
    /// The volume's error: damaged, not an image, of another version, no space, …
    case volume(VolumeError.Code)
    /// The device's error.
    case device(BlockError.Code)
  }

  public let code: Code
  public let status: Status
  /// The image's path.
  public let store: String
  /// What failed and the remedy, without the store's name.
  public let detail: String
  /// Where keys are wanting: which, and why.
  public let keys: WantedKeys

  init(_ code: Code, _ status: Status, store: String, _ detail: String, keys: WantedKeys = WantedKeys()) {
    self.code = code
    self.status = status
    self.store = store
    self.detail = detail
    self.keys = keys
  }

  public static func == (a: Self, b: Self) -> Bool { a.code == b.code }
  public var description: String { "\(store): \(detail)" }

  // MARK: From below

  public init(_ error: VolumeError) {
    self.init(
      error.code == .wrongKey ? .wrongKey : .volume(error.code), error.status, store: error.store, error.detail)
  }

  public init(_ error: BlockError) {
    self.init(.device(error.code), error.status, store: error.device, error.detail)
  }

  public init(_ error: AuditError, store: String) {
    self.init(.audit, error.status, store: store, error.description)
  }

  /// None of the keys opened the store. A wrong key weighs more than an unusable one, and that more than a missing one:
  /// the message names all.
  init(_ keys: WantedKeys, store: String) {
    let (code, status): (Code, Status) =
      if !keys.wrong.isEmpty {
        (.wrongKey, .wrongKey)
      } else if !keys.unusable.isEmpty {
        (.keyUnusable, .keyUnusable)
      } else {
        (.keyMissing, .keyMissing)
      }
    self.init(code, status, store: store, keys.sentence, keys: keys)
  }
}
