import BlockIO
import Glibc
import Primitives
import ProgramIO
import SecureVolume
import VNVRAM
import VTPM

/// The folder of `--tpmstate dir=`, in which the image is made on first use, under the name of swtpm's permanent state.
///
/// Invariants: a new image, and with it a new TPM, is made only where nothing has the image's name, nothing of swtpm's
/// TPM of that version lies there, and no image was made before: a marker beside it says so, and outlasts it. Whatever
/// ends the process or the power, there is nothing, or a whole image, and a marker only where there was an image. An
/// image that comes without a marker (brought over, or put back from a backup) gets one. A TPM of the other version has
/// its own image and marker.
struct StateFolder: StatePlace {
  let image: String
  let mode: mode_t
  let version: TPMVersion

  private var folder: String { image.lastIndex(of: "/").map { String(image[..<$0]) } ?? "." }
  private var marker: StateMarker { StateMarker(image: image) }

  /// A swtpm that runs would put its own state into the image's place.
  func lock() throws(SwtpmRunsError) -> SwtpmLock? { try SwtpmLock.take(in: folder) }

  /// - Throws: `.inputOutput` where there is no folder.
  func isVacant() throws -> Bool {
    var status = stat()
    guard unsafe stat(folder + "/", &status) == 0 else {
      throw TPMStateError(
        .inputOutput, unsafe "\(folder): \(String(cString: strerror(errno))); make the folder, or name another")
    }
    guard try !NewFile.isTaken(image) else { return false }
    try refuseOlderTPM()
    return true
  }

  /// - Throws: `.inputOutput` where an image was made and is gone, or that can't be told; `.refused` where another
  ///   state of swtpm's TPM lies there.
  private func refuseOlderTPM() throws {
    guard try !marker.isThere else {
      throw TPMStateError(
        .inputOutput,
        "\(image): was made before and is gone; restore it from a backup, or remove \(marker.path) to begin with a new TPM"
      )
    }
    // NVChip is libtpms' own, of a TPM 2.0 that a program without swtpm's storage had.
    let left =
      version == .tpm2 ? ["tpm2-00.volatilestate", "NVChip"] : ["tpm-00.volatilestate", "tpm-00.savestate"]
    for name in left where try NewFile.isTaken("\(folder)/\(name)") {
      throw TPMStateError(
        .refused,
        "\(folder)/\(name): is left of another TPM, whose permanent state is not here, and no new TPM is made beside it; put "
          + "the permanent state back, or move this away")
    }
  }

  /// All is done as that user.
  func prepare(owner: (user: uid_t, group: gid_t)?) {}

  func makeImage(_ first: FirstImage) throws {
    try first.make(.file(image, mode: mode)) { uuid in try marker.write(store: uuid.description, mode: mode) }
  }

  func accept(_ device: FileDevice, _ log: Log) throws {
    try refuseForeign(try ImageBeginning(device))
    do throws(BlockError) {
      if try !marker.isThere { try marker.write(store: nil, mode: mode) }
    } catch {
      log.line("without a marker beside the image: \(error)")
    }
  }

  func check() throws { try refuseForeign(try ImageBeginning(try FileDevice.openUnlocked(path: image))) }

  func prepareForSetup(hasKey: Bool) throws {
    guard try NewFile.isTaken(image) else { return }
    try Self.requireReplaceable(image, hasKey: hasKey)
  }

  /// - Throws: where it is no image.
  private func refuseForeign(_ beginning: ImageBeginning) throws {
    // Nothing deletes a file so, but a disk that lost its first block; the second header is there for that.
    if beginning == .wipedImage { return }
    let foreign = ForeignState(
      path: image, beginning: beginning,
      marked: try marker.isThere ? "remove \(image) and \(marker.path) to begin with a new TPM" : nil,
      importing: "vnvram import-swtpm \(folder) \(image) --key NAME")
    if let error = foreign.error { throw error }
  }
}
