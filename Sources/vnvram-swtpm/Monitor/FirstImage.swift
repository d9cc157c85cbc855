import Anchors
import Audit
import BlobStore
import BlockIO
import Primitives
import SecureVolume
import VNVRAM
import VTPM

/// What an image is made with on first use, wherever it is made: a key, and the anchor that is to follow it.
struct FirstImage {
  enum Key {
    /// The kernel key of that name.
    case kernel(String)
    case given(StateKey)
  }

  let version: TPMVersion
  let key: Key?
  let anchor: AnchorSpecification?
  let audit: AuditLog
  let asksForKeys: Bool
  let log: Log

  /// For messages.
  var kind: String { version == .tpm2 ? "TPM 2.0" : "TPM 1.2" }
  private var profile: DeviceProfile { version == .tpm2 ? .tpm2 : .tpm12 }

  /// - Throws: `.keyMissing` where there is no key to make it with.
  func requireKey(for image: String) throws(TPMStateError) {
    guard key == nil else { return }
    throw TPMStateError(
      .keyMissing,
      "\(image): there is no image yet, and no key to make it with; give --keyring-key NAME, or --key, or make it with "
        + "`vnvram format \(image) --key NAME --profile \(profile.rawValue)`")
  }

  /// Makes it, with its anchor if it is to have one, and then has `mark` say that it was made. Durable on return.
  ///
  /// - Throws: `.keyMissing` where there is no key to make it with; what else goes wrong.
  func make(_ place: NVRAM.NewImage, _ mark: (StoreUUID) throws -> Void) throws {
    let image = place.name
    try requireKey(for: image)
    guard let key else { return }
    if case .generation = anchor {
      throw TPMStateError(
        .usage, "\(image): a new image has generation 0; --anchor generation:N is for one that is there")
    }
    let uuid = try format(place, key, try anchor?.make())
    try mark(uuid)
    var opener = "the key that was given"
    if case .kernel(let name) = key { opener = "key \"\(name)\"" }
    log.line(
      "\(image): made, store \(uuid), for a new \(kind); only \(opener) opens it: `vnvram slot add` adds a second way")
  }

  private func format(_ place: NVRAM.NewImage, _ key: Key, _ anchor: (any FreshnessAnchor)?) throws -> StoreUUID {
    do throws(NVRAMError) {
      switch key {
      case .kernel(let name):
        return try NVRAM.makeImage(
          place, entries: profile.entries, keyNamed: name, audit: audit, anchor: anchor, asksForKeys: asksForKeys)
      case .given(let key):
        var uuid: StoreUUID?
        _ = try key.use { (key) throws(NVRAMError) in
          uuid = try NVRAM.makeImage(
            place, entries: profile.entries, key: key, slotName: StateKey.slotName,
            cost: key.kind == .passphrase ? .default : nil, audit: audit, anchor: anchor)
        }
        guard let uuid else { preconditionFailure("the key is there until the image is open") }
        return uuid
      }
    } catch { throw TPMStateError(error.status, "\(error); the image doesn't exist yet, and was not made") }
  }
}
