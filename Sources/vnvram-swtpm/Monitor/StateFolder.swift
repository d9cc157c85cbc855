import Anchors
import Audit
import BlobStore
import BlockIO
import Glibc
import Primitives
import SecureVolume
import VNVRAM
import VTPM

/// The folder of `--tpmstate dir=`, in which the image is made on first use.
///
/// Invariants: a new image, and with it a new TPM, is made only where nothing has the image's name, nothing of swtpm's lies
/// there, and no image was made before: a marker beside it says so, and outlasts it. Whatever ends the process or the power,
/// there is nothing, or a whole image, and a marker only where there was an image. An image that comes without a marker
/// (brought over, or put back from a backup) gets one.
struct StateFolder {
  let image: String
  let mode: mode_t
  let version: TPMVersion

  private var folder: String { image.lastIndex(of: "/").map { String(image[..<$0]) } ?? "." }
  private var marker: StateMarker { StateMarker(image: image) }

  /// Nil where the image is to be there already.
  init?(_ state: StateLocation?, _ version: TPMVersion) {
    guard let state, state.makesImage else { return nil }
    image = state.image(for: version)
    mode = state.mode
    self.version = version
  }

  /// Whether there is an image, in whatever condition. It gets its marker.
  ///
  /// - Throws: `.inputOutput` where there is no folder.
  func hasImage(_ log: Log) throws(TPMStateError) -> Bool {
    var status = stat()
    guard unsafe stat(folder + "/", &status) == 0 else {
      throw TPMStateError(
        .inputOutput, unsafe "\(folder): \(String(cString: strerror(errno))); make the folder, or name another")
    }
    guard NewFile.isTaken(image) else { return false }
    // What is empty was never an image.
    if unsafe stat(image, &status) == 0, status.st_mode & S_IFMT == S_IFREG, status.st_size > 0,
      !marker.isThere
    {
      do throws(BlockError) { try marker.write(store: nil, mode: mode) } catch {
        log.line("without a marker beside the image: \(error)")
      }
    }
    return true
  }

  /// What an image is made with.
  enum Key {
    /// The kernel key of that name.
    case kernel(String)
    case given(StateKey)
  }

  /// Makes the image, with its anchor if it is to have one, and the marker. Durable on return.
  ///
  /// - Throws: `.keyMissing` where there is no key to make it with; `.inputOutput` where one was made before and is gone;
  ///   `.refused` where swtpm's state lies in the folder; what else goes wrong.
  func makeImage(
    _ key: Key?, _ audit: AuditLog, _ anchor: AnchorSpecification?, _ log: Log, asksForKeys: Bool
  ) throws {
    try refuseOlderTPM()
    guard let key else {
      let profile = version == .tpm2 ? DeviceProfile.tpm2 : .tpm12
      throw TPMStateError(
        .keyMissing,
        "\(image): doesn't exist, and there is no key to make it with; give --keyring-key NAME, or --key, or make it with "
          + "`vnvram format \(image) --key NAME --profile \(profile.rawValue)`")
    }
    if case .generation = anchor {
      throw TPMStateError(
        .usage, "\(image): a new image has generation 0; --anchor generation:N is for one that is there")
    }
    let uuid = try format(key, audit, try anchor?.make(), asksForKeys)
    try marker.write(store: uuid.description, mode: mode)
    let kind = version == .tpm2 ? "TPM 2.0" : "TPM 1.2"
    var opener = "the key that was given"
    if case .kernel(let name) = key { opener = "key \"\(name)\"" }
    log.line(
      "\(image): made, store \(uuid), for a new \(kind); only \(opener) opens it: `vnvram slot add` adds a second way")
  }

  /// - Throws: where an image was made and is gone, or swtpm's state lies there.
  func refuseOlderTPM() throws(TPMStateError) {
    let (other, option) = version == .tpm2 ? ("tpm-00", "without --tpm2") : ("tpm2-00", "with --tpm2")
    for name in ["\(other).vnvram", "\(other).vnvram.made"] where NewFile.isTaken("\(folder)/\(name)") {
      throw TPMStateError(
        .refused,
        "\(folder)/\(name): is of the other kind of TPM, and no second one is made beside it; start it \(option)")
    }
    let names =
      [
        "tpm2-00.permall", "tpm2-00.volatilestate", "tpm-00.permall", "tpm-00.volatilestate", "tpm-00.savestate",
        "NVChip",
      ]
    if let name = names.first(where: { NewFile.isTaken("\(folder)/\($0)") }) {
      // Its own kind, whatever was asked for.
      let kind = name.split(separator: "-").first.map { $0 == "NVChip" ? "tpm2" : String($0) } ?? "tpm2"
      throw TPMStateError(
        .refused,
        "\(folder)/\(name): is the state of swtpm's TPM, and no new TPM is made beside it; bring it over with "
          + "`vnvram import-swtpm \(folder) \(folder)/\(kind)-00.vnvram --key NAME`, or move it away")
    }
    guard !marker.isThere else {
      throw TPMStateError(
        .inputOutput,
        "\(image): was made before and is gone; restore it from a backup, or remove \(marker.path) to begin with a new TPM"
      )
    }
  }

  private func format(
    _ key: Key, _ audit: AuditLog, _ anchor: (any FreshnessAnchor)?, _ asksForKeys: Bool
  ) throws -> StoreUUID {
    let entries = (version == .tpm2 ? DeviceProfile.tpm2 : .tpm12).entries
    do throws(NVRAMError) {
      switch key {
      case .kernel(let name):
        return try NVRAM.makeImage(
          at: image, mode: mode, entries: entries, keyNamed: name, audit: audit, anchor: anchor,
          asksForKeys: asksForKeys)
      case .given(let key):
        var uuid: StoreUUID?
        _ = try key.use { (key) throws(NVRAMError) in
          uuid = try NVRAM.makeImage(
            at: image, mode: mode, entries: entries, key: key, slotName: StateKey.slotName,
            cost: key.kind == .passphrase ? .default : nil, audit: audit, anchor: anchor)
        }
        guard let uuid else { preconditionFailure("the key is there until the image is open") }
        return uuid
      }
    } catch { throw TPMStateError(error.status, "\(error); the image doesn't exist yet, and was not made") }
  }
}
