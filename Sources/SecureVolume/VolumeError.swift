import BlockIO
import Crypto
import Primitives

/// What can go wrong below the blob store. Equality is on the code; the rest is for people.
public struct VolumeError: StatusError, Equatable {
  public enum Code: Sendable, Equatable {
    /// The device failed; its own error's status says how (in use, no space, input/output, …).
    case device(Status)
    /// libcrypto failed or lacks an algorithm.
    case cryptography
    /// No vnvram image, or one whose making was cut short.
    case notAnImage
    /// A version, suite or feature that this program does not know.
    case unsupportedVersion
    /// A plaintext image where an encrypted one was expected, or the other way round.
    case notEncrypted
    /// No slot opens with the key that was given.
    case wrongKey
    /// Damaged or tampered with: something that the key says should be there isn't. With what shows it.
    case notAuthentic(Evidence)
    /// Older than its anchor remembers.
    case rolledBack
    /// As far as its anchor remembers, with another content: two copies went separate ways.
    case forked
    /// The anchor is missing, isn't authentic, or failed: nobody can tell whether the image is the newest.
    case anchor(AnchorError.Code)
    /// The image, the ring or a limit is too small for what was asked.
    case noSpace
    /// Opened for reading only.
    case readOnly
    /// An earlier write or sync failed; the store takes no more writes until it is opened anew.
    case failedEarlier
    /// Another process or host has written to the image meanwhile; this one writes nothing more.
    case anotherWriter
    /// There is a store here already.
    case exists
    /// No such slot.
    case noSuchSlot
    /// The last slot can't be removed; a name is taken or too long.
    case refused
  }

  /// What showed that an image is not authentic: the reasons of FORMAT §10, by which `--json` names them.
  public enum Evidence: String, Sendable {
    case geometry
    case header
    case headerPair = "header-pair"
    case journal
    case tree
    case sector
  }

  public let code: Code
  /// The image's path.
  public let store: String
  /// What failed and where, and the remedy, as one sentence without the store's name.
  public let detail: String
  /// What was asked for is done, durably, and only the anchor couldn't be told of it.
  public let isDurable: Bool

  public init(_ code: Code, store: String, _ detail: String) {
    self.code = code
    self.store = store
    self.detail = detail
    isDurable = false
  }

  /// Of an anchor's failure, after the image was changed: an anchor's failure is not the store's.
  ///
  /// - Parameter change: what is durable, as the sentence's beginning.
  init(_ error: VolumeError, after change: String) {
    (code, store, isDurable) = (error.code, error.store, true)
    detail = "\(change), durably; but \(error.detail)"
  }

  init(_ error: BlockError, store: String) {
    self.init(.device(error.status), store: store, error.detail)
  }

  init(_ error: CryptoError, store: String) {
    self.init(.cryptography, store: store, error.description)
  }

  init(_ error: AnchorError, store: String) {
    self.init(.anchor(error.code), store: store, "its anchor \(error)")
  }

  public static func == (a: Self, b: Self) -> Bool { a.code == b.code }

  public var status: Status {
    switch code {
    case .device(let status): status
    case .cryptography, .failedEarlier: code == .cryptography ? .failed : .inputOutput
    case .notAnImage, .unsupportedVersion: .notAnImage
    case .notEncrypted, .readOnly, .exists, .refused: .refused
    case .wrongKey: .wrongKey
    case .notAuthentic: .notAuthentic
    case .rolledBack, .forked: .rolledBack
    case .anchor(let code): code.status
    case .noSpace: .noSpace
    case .anotherWriter: .inUse
    case .noSuchSlot: .notFound
    }
  }

  public var description: String { "\(store): \(detail)" }
}
