import Primitives
import SecureVolume

/// What can go wrong in the blob store. Equality is on the code; the rest is for people and for `--json`.
public struct BlobStoreError: StatusError, Equatable {
  public enum Code: Sendable, Equatable {
    /// The volume failed; its error says how, and its status is passed on.
    case volume(VolumeError)
    case noSuchEntry
    /// There is an entry of that name.
    case exists
    case invalidName
    /// More than 1024 entries, or a capacity outside 1 to 268 435 456 bytes.
    case overLimit
    /// More bytes than the entry's capacity, or than the caller's limit.
    case tooLarge
    /// The volume must be at least this large for what was asked.
    case noSpace(needed: ByteCount)
    /// The stream is not as FORMAT §8 says.
    case damaged
    /// What a visitor met: a value that doesn't fit, or content that isn't what the device's description says.
    case fields(VisitorError)
  }

  public let code: Code
  /// The image's path, where one was involved.
  public let store: String?
  /// One sentence without the store's name: what failed, where, and the remedy.
  public let detail: String
  /// Damage: where in the stream.
  public let offset: ByteOffset?
  /// The entry that it is about.
  public let entry: EntryName?

  public init(
    _ code: Code, store: String?, entry: EntryName? = nil, offset: ByteOffset? = nil, _ detail: String
  ) {
    self.code = code
    self.store = store
    self.entry = entry
    self.offset = offset
    self.detail = detail
  }

  init(_ error: VolumeError) {
    self.init(.volume(error), store: error.store, error.detail)
  }

  /// Damage at a place of the stream.
  static func damaged(
    _ what: String, at offset: UInt64, entry: EntryName? = nil, store: String
  ) -> BlobStoreError {
    let of = entry.map { ", entry \"\($0)\"" } ?? ""
    return BlobStoreError(
      .damaged, store: store, entry: entry, offset: ByteOffset(offset),
      "the stream is damaged at byte \(offset)\(of): \(what); restore the image from a backup")
  }

  static func noSuchEntry(_ name: EntryName, store: String) -> BlobStoreError {
    BlobStoreError(.noSuchEntry, store: store, entry: name, "has no entry \"\(name)\"; `vnvram ls` names them")
  }

  public static func == (a: Self, b: Self) -> Bool { a.code == b.code }

  public var status: Status {
    switch code {
    case .volume(let error): error.status
    case .noSuchEntry: .notFound
    case .exists: .refused
    case .invalidName: .usage
    case .overLimit, .tooLarge, .noSpace: .noSpace
    case .damaged: .notAuthentic
    case .fields(let error): error.status
    }
  }

  public var description: String { store.map { "\($0): \(detail)" } ?? detail }
}
