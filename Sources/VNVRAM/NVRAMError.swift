import Audit
import BlobStore
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
    /// The one key that was to be used has no slot in the image.
    case noSuchSlot
    /// The record of key uses could not be written; the key was not used.
    case audit
    /// The volume's error: damaged, not an image, of another version, no space, …
    case volume(VolumeError.Code)
    /// The device's error.
    case device(BlockError.Code)
    /// The blob store's error.
    case blobs(BlobStoreError.Code)
    /// What a device's callback threw or met; nothing was written.
    case fields(VisitorError)
    /// There is no store on the device. Nothing is ever formatted without being told to.
    case unformatted
    /// `start` was not called or did not succeed.
    case notStarted
    /// It was started, or it holds requests, and what was asked for comes before that.
    case started
    /// `close` was called. What waited then has had no effect.
    case closed
    /// An earlier error ended it; set it up anew.
    case failedEarlier
    /// No entry of that name is registered.
    case notRegistered
    case alreadyRegistered
    /// A registered entry isn't in the image.
    case entryMissing
    /// A registered entry is larger than its place in the image.
    case entryTooSmall
    /// More bytes than the registered entry has, or may be read.
    case tooLarge
    /// More requests wait to be served or told than may, in number or bytes (`NVRAMConfiguration.maximumRequests`).
    case queueFull
    /// The deadline passed while the request waited to be served; it has had no effect. Of `processRequests`: before
    /// all was served and told.
    case timedOut
    /// It was called off while it waited, or its entry was deregistered; it has had no effect.
    case cancelled
    /// The thread that calls completions and observers was to wait for a key, which may come only by what it calls
    /// next. It has had no effect.
    case wouldDeadlock
    /// The system gives no thread.
    case noThread
  }

  public let code: Code
  public let status: Status
  /// The image's path.
  public let store: String
  /// What failed and the remedy, without the store's name.
  public let detail: String
  /// Where keys are wanting: which, and why.
  public let keys: WantedKeys
  /// What was asked for is done, durably, and only the anchor couldn't be told of it.
  public let isDurable: Bool

  init(
    _ code: Code, _ status: Status, store: String, _ detail: String, keys: WantedKeys = WantedKeys(),
    isDurable: Bool = false
  ) {
    self.code = code
    self.status = status
    self.store = store
    self.detail = detail
    self.keys = keys
    self.isDurable = isDurable
  }

  public static func == (a: Self, b: Self) -> Bool { a.code == b.code }
  public var description: String { "\(store): \(detail)" }

  init(_ error: SystemThread.Failure, store: String) {
    self.init(.noThread, .failed, store: store, "the system gives no thread (error \(error.errno))")
  }

  static func deregistered(_ entry: EntryName, _ store: String) -> NVRAMError {
    NVRAMError(.cancelled, .failed, store: store, "entry \"\(entry)\" was deregistered while a request waited")
  }

  /// Of an opening in another process.
  init(openingFailed error: any StatusError, store: String) {
    let prefix = store + ": "
    let text = error.description
    self.init(
      .failedEarlier, error.status, store: store, text.hasPrefix(prefix) ? String(text.dropFirst(prefix.count)) : text)
  }

  // MARK: From below

  public init(_ error: VolumeError) {
    self.init(
      error.code == .wrongKey ? .wrongKey : .volume(error.code), error.status, store: error.store, error.detail,
      isDurable: error.isDurable)
  }

  public init(_ error: BlockError) {
    self.init(.device(error.code), error.status, store: error.device, error.detail)
  }

  /// - Parameter store: for errors that are of no store.
  public init(_ error: BlobStoreError, store: String) {
    switch error.code {
    case .volume(let error): self.init(error)
    case .fields(let fields): self.init(.fields(fields), error.status, store: error.store ?? store, error.detail)
    default: self.init(.blobs(error.code), error.status, store: error.store ?? store, error.detail)
    }
  }

  init(_ error: VisitorError, entry: EntryName, store: String) {
    self.init(.fields(error), error.status, store: store, "entry \"\(entry)\": \(error)")
  }

  init(_ error: KeyringError, store: String) {
    let keys: WantedKeys
    let code: Code
    switch error.code {
    case .missing: (code, keys) = (.keyMissing, WantedKeys(missing: [error.key]))
    case .wrongSize: (code, keys) = (.wrongKey, WantedKeys(wrong: [error.key]))
    default:
      (code, keys) = (.keyUnusable, WantedKeys(unusable: [.init(name: error.key, reason: error.detail)]))
    }
    self.init(code, error.status, store: store, error.description, keys: keys)
  }

  public init(_ error: AuditError, store: String) {
    self.init(.audit, error.status, store: store, error.description)
  }

  /// None of the keys opened the store. A wrong key weighs more than an unusable one, and that more than a missing one:
  /// the message names all.
  public init(_ keys: WantedKeys, store: String) {
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
