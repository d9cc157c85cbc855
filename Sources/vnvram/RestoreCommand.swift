import ArgumentParser
import Audit
import BlobStore
import BlockIO
import Glibc
import Primitives
import ProgramIO
import SecureVolume

/// `vnvram restore`: a backup takes an image's place, as a whole or not at all.
struct RestoreCommand: Subcommand {
  static let configuration = CommandConfiguration(
    commandName: "restore", abstract: "Put a backup in an image's place, after verifying all of it.",
    discussion: """
      What the image has had since the backup is lost: for a TPM, later keys and counters. The slots are those of the \
      backup, too: a key that was removed since opens it again. Replacing an image takes --force; it must not be in use, \
      must be of the same store, and keeps its owner and mode. A file that doesn't open is replaced only where its header \
      still names that store, or it is empty: move any other out of the way first. So, too, an image that is older than the \
      backup, since that is what the two names swapped look like.

      Where the image has come further than the backup, that is asked at the terminal; and an anchor that knows of a \
      later state refuses the backup, with exit status 7. With --older it is put in place all the same; then the image \
      opens with that anchor only after `vnvram accept-rollback`.

      EXAMPLE
        vnvram restore web-1.backup web-1.img --force
      """)

  @Argument(help: "The backup.", completion: .file())
  var file: String
  @Argument(help: "The image whose place it takes.", completion: .file())
  var image: String
  @Flag(help: "Replace the image that is there.")
  var force = false
  @Flag(help: "Whatever the anchor says, and without a question where the image is newer.")
  var older = false
  @OptionGroup var key: KeyOptions
  @OptionGroup var anchor: AnchorOptions
  @OptionGroup var audit: AuditOptions
  @OptionGroup var output: OutputOptions

  func validate() throws {
    if image == "-" { throw ValidationError("An image is a file with a name: name one.") }
  }

  func perform() throws -> Answer {
    let unlock = try key.unlock()
    let place = try RestorePlace(image, force: force)
    let opened = try OpenedImage(
      try FileDevice.open(path: file, access: .readOnly), unlock: unlock, audit: { try self.audit.log() })
    let backup = try opened.encrypted(for: "restore")
    let present = try place.present(unlock: unlock, audit: { try self.audit.log() })
    if case .opens(let uuid, _)? = present, uuid != backup.uuid {
      throw Failure(
        .refused,
        "\(image): is another store (\(uuid)) than \(file) is a backup of (\(backup.uuid)); name the right one, or move it "
          + "out of the way", fields: [("uuid", .string(uuid.description))])
    }
    if case .opens(_, let generation)? = present, generation < backup.generation {
      throw Failure(
        .refused,
        "\(image): is older (\(generation)) than \(file) (\(backup.generation)), as if the two were swapped: the backup comes "
          + "first; if it is meant, move \(image) out of the way")
    }
    if case .doesNotOpen(let why)? = present { try place.requireReplaceable(by: backup.uuid, why: why) }
    let objection = try askAnchor(backup)
    if case .opens(_, let generation)? = present, generation > backup.generation { try confirm(generation, backup) }
    let new = try NewFile(at: place.path, size: backup.geometry.imageSize)
    if let status = place.status { try new.inherit(from: status) }
    let copy: SecureVolume
    do {
      var progress = ProgressLine("copying", total: backup.geometry.volumeSize.value, json: output.json)
      copy = try backup.copy(to: new.device) { progress.update($0 * UInt64(backup.sectorSize)) }
    }
    let entries = try VerifiedCopy.check(copy, of: file, json: output.json)
    try self.audit.log().record(
      AuditRecord(
        .restored, store: image, uuid: backup.uuid, access: .write,
        detail: "\(copy.generation), from \(Path.absolute(file))\(place.text(present))"))
    try new.place(replacing: place.status != nil)
    return Answer(
      text: ["\(image): \(copy.generation), from \(file)\(place.text(present))"],
      fields: [
        ("image", .string(image)), ("file", .string(file)), ("uuid", .string(copy.uuid.description)),
        ("generation", .unsigned(copy.generation.value)), ("replaced", present?.json ?? .null),
        ("entries", .integer(Int64(entries))),
      ],
      warnings: opened.warnings + opened.headerWarnings + (objection.map { [$0] } ?? [])
        + blockWarning(new.device, copy))
  }

  /// What lies here now can't be written to, though it is whole.
  private func blockWarning(_ device: FileDevice, _ copy: SecureVolume) -> [String] {
    guard device.blockSize > copy.geometry.blockSize else { return [] }
    return [
      "\(image): a power cut can tear \(device.blockSize) bytes at once here, so that it opens for reading only; "
        + "`vnvram convert` writes an image that doesn't mind"
    ]
  }

  private func confirm(_ later: Generation, _ backup: SecureVolume) throws {
    guard !older else { return }
    let what = "\(image): is at \(later), and \(file) is a backup of \(backup.generation)"
    try Confirmation.ask(
      "\(Text.escaped(what)). Give up what came later?", nothing: "\(what); nothing was changed",
      otherwise: "say --older if you mean it")
  }

  /// What the anchor has against the backup, with --older; `nil` where it has nothing, or there is none.
  ///
  /// - Throws: without --older, that.
  private func askAnchor(_ backup: SecureVolume) throws -> String? {
    guard let anchor = try self.anchor.make() else { return nil }
    defer { anchor.release() }
    let why: String
    do {
      let finding = try backup.compare(with: anchor)
      guard finding.verdict == .rolledBack || finding.verdict == .forked else { return nil }
      why =
        "\(file): holds \(backup.generation), and the anchor \(finding.anchor) remembers "
        + (finding.verdict == .forked ? "\(finding.generation) with another content" : "\(finding.generation)")
    } catch {
      guard older else { throw error }
      return "\(error)"
    }
    guard older else {
      throw Failure(
        .rolledBack,
        why
          + "; find a newer backup, or put this one in place with --older, and accept it with `vnvram accept-rollback`")
    }
    return why + "; \(image) doesn't open with that anchor before `vnvram accept-rollback`"
  }
}

/// Where a backup is to go, and what is there now. Its lock is held, so that nobody opens what is about to be replaced.
final class RestorePlace {
  /// What is known of an image that is to be replaced.
  enum Present {
    case opens(StoreUUID, Generation)
    /// For whatever reason, in a sentence.
    case doesNotOpen(String)

    var json: JSON {
      switch self {
      case .opens(let uuid, let generation):
        .object([
          ("opens", true), ("uuid", .string(uuid.description)), ("generation", .unsigned(generation.value)),
        ])
      case .doesNotOpen(let why): .object([("opens", false), ("message", .string(why))])
      }
    }
  }

  /// Symbolic links followed: the file is replaced, not the link.
  let path: String
  /// `nil` where nothing is there.
  let status: stat?
  private let lock: FileDevice?

  /// - Throws: `.refused` without `force`, and for anything but a regular file; `.inUse`.
  init(_ image: String, force: Bool) throws {
    var found = stat()
    guard unsafe stat(image, &found) == 0 else {
      guard errno == ENOENT else { throw BlockError(errno: errno, device: image, "looking for it") }
      (path, status, lock) = (image, nil, nil)
      return
    }
    guard found.st_mode & S_IFMT == S_IFREG else {
      throw Failure(
        .refused,
        "\(image): is no regular file, and can't be replaced as a whole; restore into a file, and copy that while nothing "
          + "uses \(image)")
    }
    guard force else {
      throw Failure(
        .refused,
        "\(image): is there; what it has had since the backup would be lost, which takes --force; where it is damaged, "
          + "keep a copy: `vnvram salvage` may find newer entries in it")
    }
    lock = try FileDevice.open(path: image, access: .readWrite)
    path = try Self.resolved(image)
    status = found
  }

  private static func resolved(_ image: String) throws -> String {
    guard let resolved = unsafe realpath(image, nil) else {
      throw BlockError(errno: errno, device: image, "following it")
    }
    defer { unsafe free(resolved) }
    return unsafe String(cString: resolved)
  }

  /// Looks at what is there with the same keys; `nil` where nothing is.
  ///
  /// - Throws: where its key use can't be recorded.
  func present(unlock: borrowing Unlock, audit: () throws -> AuditLog) throws -> Present? {
    guard lock != nil else { return nil }
    do {
      let opened = try OpenedImage(try FileDevice.openUnlocked(path: path), unlock: unlock, audit: audit)
      let volume = try opened.encrypted(for: "restore")
      return .opens(volume.uuid, volume.generation)
    } catch {
      let failure = Failure(error)
      guard failure.status != .auditFailed else { throw failure }
      return .doesNotOpen(failure.message)
    }
  }

  /// Refuses to replace what doesn't open unless it is empty, or a header copy in it names the same store: anything
  /// else may be somebody's file, or another store.
  func requireReplaceable(by store: StoreUUID, why: String) throws {
    guard let lock, lock.size.value > 0 else { return }
    let claimed = SealedVolume.claimedStores(lock)
    guard claimed.isEmpty || !claimed.allSatisfy({ $0 == store }) else { return }
    throw Failure(
      .refused,
      "\(lock.name): can't be told to be an image of this store; move it out of the way first (if it was one, "
        + "`vnvram header restore` or `vnvram salvage` may still recover something of it)",
      fields: [("why", .string(why))])
  }

  /// For the end of a sentence.
  func text(_ present: Present?) -> String {
    switch present {
    case nil: ""
    case .opens(_, let generation)?: ", in place of \(generation)"
    case .doesNotOpen?: ", in place of an image that doesn't open"
    }
  }
}
