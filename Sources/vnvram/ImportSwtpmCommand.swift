import ArgumentParser
import Audit
import BlobStore
import BlockIO
import Glibc
import Primitives
import ProgramIO
import SecureVolume
import SwtpmFormat

/// `vnvram import-swtpm`: the state of a TPM comes from swtpm's storage into an image.
///
/// Nothing is changed before libtpms took the state; the image gets its name, or its new content, in one step; and the
/// source is touched only after that, and only if asked for.
struct ImportSwtpmCommand: Subcommand {
  static let configuration = CommandConfiguration(
    commandName: "import-swtpm", abstract: "Bring a TPM's state from swtpm's storage into an image.",
    discussion: """
      The source is swtpm's state directory (libvirt's: /var/lib/libvirt/swtpm/UUID/tpm2), or a file of its backend \
      file://. A swtpm that runs on it is noticed where it can be: exit status 9. An image that isn't there is made, for \
      the key that --key names; run by root, it gets the source's owner. In one that is there the entries of a TPM's state \
      must be empty, or --force be given.

      The image may take the place of swtpm's own permanent state, DIRECTORY/tpm2-00.permall or the single file, in one step:       vnvram-swtpm looks for it there. What swtpm had there is kept beside it, its name with .swtpm at the end, unless       --remove-source is given.

      Before anything is changed libtpms loads the state, in a confined process of vnvram-swtpm; what is stored is read \
      back and compared. The source stays as it is, unless --remove-source is given: then it is overwritten, synced and \
      removed, last of all; but if it changed meanwhile, or is in use again, it stays: exit status 9. That doesn't reach \
      what copy-on-write, snapshots and flash keep below, nor earlier states: swtpm writes a new file each time, and leaves the old one's blocks as they are.

      Exit status 3: the state is encrypted, and there is no --swtpm-key; 4: it is the wrong one, or the state was changed; \
      6: damaged, or nothing that libtpms loads; 8: no state of swtpm's.

      EXAMPLE
        vnvram key generate vm7
        cd /var/lib/libvirt/swtpm/UUID/tpm2
        vnvram import-swtpm . tpm2-00.permall --key vm7
      """)

  @Argument(help: "swtpm's directory, or its single file.", completion: .directory)
  var source: String
  @Argument(help: "The image, which is made where it isn't there.", completion: .file())
  var image: String
  @Option(help: "The kernel key that is to open a new image.")
  var key: KeyNameArgument?
  @Option(help: ArgumentHelp("The key that swtpm was given.", discussion: SwtpmKeyOptions.discussion, valueName: "key"))
  var swtpmKey: String?
  @Flag(name: .customLong("tpm2"), help: "The source's TPM 2.0, where it has both.")
  var tpm2 = false
  @Flag(name: .customLong("tpm1.2"), help: "The source's TPM 1.2.")
  var tpm12 = false
  @Flag(help: "For a new image, show a recovery key on the terminal.")
  var recoveryKey = false
  @Option(help: ArgumentHelp("For a new image, write a recovery key to this descriptor.", valueName: "n"))
  var recoveryKeyFd: Int32?
  @Flag(help: "Replace the TPM's state that the image has; it is lost.")
  var force = false
  @Flag(help: "Overwrite and remove the source once all is done.")
  var removeSource = false
  @OptionGroup var opening: AuthorisationOptions
  @OptionGroup var output: OutputOptions

  private var isRecovery: Bool { recoveryKey || recoveryKeyFd != nil }

  func validate() throws {
    try DescriptorArgument.check(recoveryKeyFd, opening.openRecoveryKeyFd, opening.openPassphraseFd)
    if tpm2, tpm12 { throw ValidationError("Give one of --tpm2 and --tpm1.2.") }
    if key == nil, isRecovery {
      throw ValidationError("A recovery key is made for a new image: say --key NAME, too.")
    }
    let opens = opening.openRecoveryKeyFd != nil || opening.openPassphrase || opening.openPassphraseFd != nil
    if key != nil, force || opens {
      throw ValidationError("--key is for a new image, --force and --open-… for one that is there.")
    }
  }

  func perform() throws -> Answer {
    let keySource = try SwtpmKeyOptions.parse(swtpmKey)
    let asked: SwtpmVersion? = tpm2 ? .tpm2 : tpm12 ? .tpm12 : nil
    let isNew = try placeIsFree()
    let source = try SwtpmSource(source, version: asked, image: image, removing: removeSource)
    if !isNew, key != nil, !source.isInPlace { throw isThereAlready }
    let key = try keySource?.load()
    let (version, states) = try source.read(key)
    let trial = try SwtpmTrial(states, version, from: self.source)
    let target = SwtpmImage(image, version: version, states: states, json: output.json)
    let made: SwtpmImage.Result
    let detail =
      "\(SwtpmState.list(states)) of a \(version.label), from \(Path.absolute(self.source)), "
      + (states.contains { !$0.wasEncrypted } ? "not encrypted" : "encrypted with swtpm's key")
    if isNew || source.isInPlace, let name = self.key?.name {
      made = try target.make(
        key: name, recovery: isRecovery ? try NewRecoveryKey(descriptor: recoveryKeyFd, json: output.json) : nil,
        from: source, anchor: opening.anchor, audit: try opening.audit.log(), detail: detail)
    } else {
      made = try target.fill(opening.options, force: force, audit: try opening.audit.log(), detail: detail)
    }
    try mark(made, source)
    if removeSource {
      try source.remove(image: image)
    } else if source.isInPlace {
      try source.moveRestAside()
    }
    return answer(
      version, states, trial, made, hasKey: key != nil, kept: source.isInPlace && !removeSource ? source.kept : [])
  }

  /// Whether nothing is there where the image is to be, before any secret is read.
  private func placeIsFree() throws -> Bool {
    var status = stat()
    let isThere = unsafe stat(image, &status) == 0
    // Where it is the source's own place isn't known yet.
    if isThere, key != nil, try !mayBeSwtpms() { throw isThereAlready }
    guard isThere || key != nil else {
      throw Failure(.usage, "\(image): isn't there; say which key is to open a new image: --key NAME")
    }
    if isThere, key == nil, try mayBeSwtpms() {
      throw Failure(
        .usage, "\(image): is a state of swtpm's; say which key is to open the image that takes its place: --key NAME")
    }
    return !isThere
  }

  private var isThereAlready: Failure {
    Failure(
      .refused, "\(image): is there already; leave out --key to bring the state into it, or name a new image")
  }

  private func mayBeSwtpms() throws -> Bool {
    let beginning = try ImageBeginning(try FileDevice.openUnlocked(path: image))
    return beginning == .swtpmState || beginning == .swtpmFile
  }

  /// Where `--tpmstate dir=` is to find the image it gets its marker, without which no image means a new TPM.
  private func mark(_ made: SwtpmImage.Result, _ source: SwtpmSource) throws {
    let marker = StateMarker(image: image)
    guard marker.isWanted else { return }
    var status = stat()
    let keepsOwner = unsafe geteuid() != 0 || stat(image, &status) != 0
    status.st_mode = 0o600
    do throws(BlockError) {
      if !made.wasMade, try marker.isThere { return }
      // A marker that is there is that of an image that is gone.
      try marker.write(store: made.uuid, owner: keepsOwner ? nil : status, replacing: true)
    } catch {
      throw Failure(
        error.status,
        "the image is made and verified, and what swtpm had is in \(source.kept.joined(separator: ", ")), as it was; but what is "
          + "to say that \(image) was made couldn't be written: \(error). Once the disk is sound, start vnvram-swtpm with the image, "
          + "which writes it, too")
    }
  }

  private func answer(
    _ version: SwtpmVersion, _ states: [SwtpmState], _ trial: SwtpmTrial, _ made: SwtpmImage.Result, hasKey: Bool,
    kept: [String]
  ) -> Answer {
    var warnings = made.warnings
    if hasKey, states.contains(where: { !$0.wasEncrypted }) {
      warnings.append("\(source): was not encrypted, though a key was given for it")
    }
    if removeSource {
      warnings.append(
        "\(source): was overwritten and removed; snapshots, copy-on-write, flash, and the blocks of states that swtpm itself "
          + "replaced earlier may still hold it")
    }
    let how = made.wasMade ? "made, opened by key \(Text.quoted(key?.name.text ?? ""))" : "filled"
    return Answer(
      text: [
        "\(image): \(how)\(isRecovery ? " and a recovery key" : ""), with \(SwtpmState.list(states)) of a \(version.label)",
        "libtpms loads it: \(trial.text)",
      ] + (removeSource ? ["\(Text.escaped(source)): overwritten and removed"] : [])
        + kept.map { "\(Text.escaped($0)): what swtpm had, kept" },
      fields: [
        ("source", .string(source)), ("image", .string(image)), ("uuid", .string(made.uuid)),
        ("tpm", .string(version.rawValue)), ("states", .array(states.map(\.json))), ("loaded", trial.json),
        ("made", .bool(made.wasMade)), ("recovery_key", .bool(isRecovery)), ("source_removed", .bool(removeSource)),
        ("kept", .array(kept.map { .string($0) })),
      ], warnings: warnings)
  }
}
