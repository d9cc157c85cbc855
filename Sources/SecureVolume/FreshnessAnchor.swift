import Primitives

/// A place outside the image that remembers how far a store had come, so that an older copy of the image is noticed
/// (DESIGN P5; FORMAT §12).
///
/// It follows the image and never leads: the volume hands a record over only after both header copies that it tells of
/// are durable. It knows no key: records are sealed by the volume, which alone says which of them are authentic.
///
/// Single-threaded, as the volume is. It holds what it has open, and its lock, from the first `recall` or `prepare`
/// until `release`.
public protocol FreshnessAnchor: AnyObject {
  /// For messages: the path, or what it is.
  var name: String { get }

  /// Opens what later calls need, where the process may not be able to any more. What is wrong shows in `recall`.
  func prepare(for store: StoreUUID, forWriting: Bool)

  /// What is remembered. It may be in a cache alone, as a failed sync leaves it: `confirm`, or `store`, shows that it
  /// isn't.
  ///
  /// - Throws: `.missing` where there is nothing of this store: never "first use".
  func recall(_ store: StoreUUID, forWriting: Bool) throws(AnchorError) -> AnchorMemory

  /// Told which of the records is authentic and newest, before anything relies on it.
  ///
  /// - Throws: `.rolledBack` where the anchor itself is older than what it is protected by.
  func adopt(_ record: AnchorRecord, at index: Int, forWriting: Bool) throws(AnchorError)

  /// Writes the record that was adopted once more, in its own place; durable on return. No counter moves.
  func confirm() throws(AnchorError)

  /// Makes a place for a store's records; what `store` hands over is its first.
  ///
  /// - Parameters:
  ///   - index: the newest authentic record that is there, which must not be overwritten first.
  ///   - replacing: take a place that has something in it.
  func establish(for store: StoreUUID, keeping index: Int?, replacing: Bool) throws(AnchorError)

  /// The value of the counter that the next record is to carry; 0 where there is none.
  func counter(for moment: AnchorMoment) throws(AnchorError) -> UInt64

  /// Takes a sealed record in place of the one before, which stays until this one is whole. Durable on return.
  func store(_ sealed: borrowing ByteBuffer, _ moment: AnchorMoment) throws(AnchorError)

  /// Whether `establish` with `replacing` has nothing else than an anchor of this store, or nothing at all, to replace.
  ///
  /// - Throws: `.exists` where something else would be lost.
  func mayEstablish(for store: StoreUUID) throws(AnchorError)

  /// Undoes `establish`, where that made a place which wasn't there: the store doesn't come to be. Then as `release`.
  func withdraw()

  /// Closes what is open and gives up the lock. `recall` opens it again.
  func release()
}

extension FreshnessAnchor {
  public func prepare(for store: StoreUUID, forWriting: Bool) {}
  public func adopt(_ record: AnchorRecord, at index: Int, forWriting: Bool) throws(AnchorError) {}
  public func counter(for moment: AnchorMoment) throws(AnchorError) -> UInt64 { 0 }
  public func withdraw() { release() }
  public func release() {}
  public func mayEstablish(for store: StoreUUID) throws(AnchorError) {}
}

/// An anchor, and what is to be done with it at an opening.
public struct AnchorUse {
  public let anchor: any FreshnessAnchor
  /// It is told what the image is, instead of asked.
  public let isAccepting: Bool
  /// What was shown to the person who accepts it.
  public let shown: VolumeMoment?

  /// The image is compared with it, and it follows the image.
  public static func following(_ anchor: any FreshnessAnchor) -> AnchorUse {
    AnchorUse(anchor: anchor, isAccepting: false, shown: nil)
  }

  /// The image counts as the newest: see `SealedVolume.unlock(with:slotName:accepting:)`. Where it isn't as it was
  /// `shown` any more, nothing is accepted.
  public static func accepting(_ anchor: any FreshnessAnchor, shown: VolumeMoment? = nil) -> AnchorUse {
    AnchorUse(anchor: anchor, isAccepting: true, shown: shown)
  }
}

/// The state of a store at one moment, as its authentic structures name it: two that are equal hold the same.
public struct VolumeMoment: Equatable, Sendable {
  let uuid: StoreUUID
  let headerSequence: UInt64
  let generation: Generation
  let root: InlineBytes32
  /// The MAC of the last record.
  let chain: InlineBytes32

  /// - Parameters:
  ///   - generation: after replay.
  ///   - chain: the MAC of the last record, or what the header has in its place.
  init(_ header: Header, _ generation: Generation, chain: InlineBytes32) {
    (uuid, headerSequence, root) = (header.uuid, header.sequence, header.root)
    (self.generation, self.chain) = (generation, chain)
  }
}

extension SecureVolume {
  public var moment: VolumeMoment {
    VolumeMoment(header, generation, chain: journal.head.chain)
  }
}

/// What an anchor remembers.
public enum AnchorMemory: Sendable {
  /// Records as they were found, whole or not; at most a few.
  case records([[UInt8]])
  /// No records: only the least generation that the image must have.
  case generation(Generation)
}

/// When a record is handed over.
public enum AnchorMoment: Equatable, Sendable {
  /// The store was made, or someone accepted the image as it is.
  case establishing
  /// The image was opened for writing, recovered, and a new epoch begun; nothing has been served yet.
  case opening
  /// A checkpoint, a changed slot, a scrub; and the same record under the next number.
  case running
  /// The image was closed cleanly.
  case closing
}

/// What can go wrong with an anchor. Equality is on the code; the rest is for people.
public struct AnchorError: StatusError, Equatable {
  public enum Code: Sendable, Equatable {
    /// There is no anchor where there must be one.
    case missing
    /// What is there isn't authentic, or isn't this store's.
    case notAuthentic
    /// The anchor itself is older than the counter that protects it.
    case rolledBack
    /// There is one already.
    case exists
    /// Others could change it, or it can't do what it was asked.
    case refused
    /// The device or the TPM failed; its own status.
    case device(Status)

    /// What leaves it open whether the image is the newest has the status of a rollback: the remedy is the same.
    public var status: Status {
      switch self {
      case .missing, .notAuthentic, .rolledBack: .rolledBack
      case .exists, .refused: .refused
      case .device(let status): status
      }
    }
  }

  public let code: Code
  public let anchor: String
  /// What failed and the remedy, without the anchor's name.
  public let detail: String

  public init(_ code: Code, anchor: String, _ detail: String) {
    self.code = code
    self.anchor = anchor
    self.detail = detail
  }

  public static func == (a: Self, b: Self) -> Bool { a.code == b.code }

  public var status: Status { code.status }
  public var description: String { "\(anchor): \(detail)" }
}
