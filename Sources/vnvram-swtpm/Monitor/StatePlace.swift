import BlockIO
import Glibc
import ProgramIO
import SecureVolume
import VTPM

/// Where the image lies that a server makes itself, or finds: a folder of TPM state, or a file or device.
///
/// One rule for all: a new TPM is made only where no image ever was, as far as a marker tells, and nothing lies that
/// may be a state; what swtpm made is neither served nor replaced.
protocol StatePlace {
  /// Keeps swtpm out until an image that is to be made has its name. Nil where there is nothing to be locked.
  ///
  /// - Throws: where a swtpm runs there.
  func lock() throws(SwtpmRunsError) -> SwtpmLock?

  /// Whether an image is to be made here: there is none, and none is missing.
  ///
  /// - Throws: where there is none and none may be made.
  func isVacant() throws -> Bool

  /// Takes what only who started the server may take, before it goes on as another user.
  ///
  /// - Parameter owner: that user, whose the image is to be.
  func prepare(owner: (user: uid_t, group: gid_t)?) throws

  /// Makes the image, and the marker, once it is prepared. Durable on return.
  func makeImage(_ first: FirstImage) throws

  /// Looks at what is there, before it is served: an image gets its marker if it has none.
  ///
  /// - Parameter device: opened, and locked unless another server still has it.
  /// - Throws: `.refused` for a state of swtpm's; `.notAnImage` for what is nobody's.
  func accept(_ device: FileDevice, _ log: Log) throws

  /// What `accept` does without writing anything, to what isn't open.
  func check() throws

  /// Before swtpm_setup is told that there is no state: it deletes what is there, and starts a server that is to make
  /// an image.
  ///
  /// - Parameter hasKey: whether there is a key to make one with.
  /// - Throws: `.keyMissing` where an image without a state would only be lost; `.refused` where slots would be that
  ///   another image wouldn't have.
  func prepareForSetup(hasKey: Bool) throws
}

extension StatePlace {
  /// For an image without a state, which the given key opened, if there is one.
  static func requireReplaceable(_ image: String, hasKey: Bool) throws {
    guard hasKey else { throw TPMStateError.wouldBeDeleted(image) }
    let slots = try SealedVolume(try FileDevice.openUnlocked(path: image)).slots
    guard slots.count <= 1 else {
      throw TPMStateError(
        .refused,
        "\(image): is an image without a TPM's state that has \(slots.count) slots; swtpm_setup would replace it by one with a "
          + "single slot: remove the other slots (`vnvram slot remove`), and add them (`vnvram slot add`) when swtpm_setup has made the TPM"
      )
    }
  }
}

extension TPMStateError {
  static func noKeyForSetup(_ image: String) -> TPMStateError {
    TPMStateError(
      .keyMissing,
      "\(image): there is no image yet, and no key for swtpm_setup's server to make it with; give --keyring-key NAME, or --key"
    )
  }

  static func wouldBeDeleted(_ image: String) -> TPMStateError {
    TPMStateError(
      .keyMissing,
      "\(image): is an image without a TPM's state; swtpm_setup would delete it, and there is no key to make another one with: "
        + "give --keyring-key NAME, or --key")
  }
}

/// What a place is that has no image of ours, in words.
struct ForeignState {
  let path: String
  let beginning: ImageBeginning
  /// Set where an image was made here, as its marker says: what to do with the marker for a new TPM.
  let marked: String?
  /// The command that brings swtpm's state over.
  let importing: String

  /// Nil for an image.
  var error: TPMStateError? {
    switch beginning {
    case .image: return nil
    case .swtpmState, .swtpmFile:
      let both =
        marked == nil
        ? ""
        : ", though an image was made here: swtpm ran in its place, or its state was put back, and the image's is another, "
          + "perhaps newer one; restore the image from a backup, or"
      return TPMStateError(
        .refused,
        "\(path): is the state of swtpm's TPM\(both.isEmpty ? ", which is not served as it is;" : both) bring it over with "
          + "`\(importing)`")
    case .empty, .zeros, .wipedImage, .unknown:
      let what = beginning == .empty ? "is empty" : "is neither an image nor a state of swtpm's"
      let rest =
        marked.map { "an image was made here, so restore it from a backup, or \($0)" }
        ?? "restore the state that was here, or remove it to begin with a new TPM"
      return TPMStateError(.notAnImage, "\(path): \(what), and no new TPM takes its place; \(rest)")
    }
  }
}
