import ArgumentParser
import Audit
import BlobStore
import BlockIO
import Primitives
import ProgramIO
import SecureVolume

/// `vnvram backup`: a verified copy of an image, also while a virtual machine uses it.
struct BackupCommand: Subcommand {
  static let configuration = CommandConfiguration(
    commandName: "backup", abstract: "Copy an image into a file, as of one moment, also while it is in use.",
    discussion: """
      Every sector is verified as it is copied, and the copy once more as a whole, before it gets its name. It is an image \
      closed cleanly, with an empty journal, which the same keys open: keep it as you keep the image. Nobody is kept from \
      the image meanwhile, and nothing of it is changed. Exit status 9: more was written than could be copied; try \
      again. --force replaces an earlier backup of the same store that nothing uses, and nothing else; one of a later \
      generation only after a question at the terminal. No anchor is asked, since whoever uses the image may hold it: \
      `vnvram restore` asks it.

      EXAMPLE
        vnvram backup web-1.img web-1.backup
      """)

  @Argument(help: "The image.", completion: .file())
  var image: String
  @Argument(help: "The file that gets the copy.", completion: .file())
  var file: String
  @Flag(help: "Replace an earlier backup of the same store.")
  var force = false
  @OptionGroup var key: KeyOptions
  @OptionGroup var audit: AuditOptions
  @OptionGroup var output: OutputOptions

  func validate() throws {
    if file == "-" { throw ValidationError("A backup takes a file, which is verified once it is there: name one.") }
  }

  func perform() throws -> Answer {
    try NewFile.requireFree(file, force: force)
    let unlock = try key.unlock()
    let isInUse = try isInUse()
    let source = try FileDevice.openUnlocked(path: image)
    let opened = try OpenedImage(source, unlock: unlock, audit: { try audit.log() })
    let volume = try opened.encrypted(for: "back up")
    try NewFile.requireOther(file, than: image)
    let replaced = try ReplacedFile(file, by: .image, of: volume.uuid, force: force)
    try confirm(replaced, volume.generation, unlock)
    let new = try NewFile(at: file, size: volume.geometry.imageSize)
    let copy: SecureVolume
    do {
      var progress = ProgressLine("copying", total: volume.geometry.volumeSize.value, json: output.json)
      copy = try volume.copy(to: new.device) { progress.update($0 * UInt64(volume.sectorSize)) }
    }
    let entries = try VerifiedCopy.check(copy, of: image, json: output.json)
    try audit.log().record(
      AuditRecord(
        .backedUp, store: image, uuid: volume.uuid, access: .read,
        detail: "\(copy.generation), into \(Path.absolute(file))"))
    try withExtendedLifetime(replaced) { try new.place(replacing: force) }
    return Answer(
      text: [
        "\(file): \(copy.generation) of \(image), verified: "
          + "\(Text.count(Int(copy.sectorCount), "sector", "sectors")), \(Text.count(entries, "entry", "entries"))"
      ],
      fields: [
        ("image", .string(image)), ("file", .string(file)), ("uuid", .string(copy.uuid.description)),
        ("generation", .unsigned(copy.generation.value)), ("size", .unsigned(copy.geometry.imageSize.value)),
        ("entries", .integer(Int64(entries))),
      ], warnings: opened.keyWarnings + (isInUse ? [] : opened.closingWarnings) + opened.headerWarnings)
  }

  /// Whoever has it open will close it.
  private func isInUse() throws(BlockError) -> Bool {
    do {
      try FileDevice.open(path: image, access: .readOnly).close()
      return false
    } catch {
      guard error.code == .inUse else { throw error }
      return true
    }
  }

  /// Before a later state gives way to an earlier one.
  private func confirm(_ replaced: ReplacedFile, _ generation: Generation, _ unlock: borrowing Unlock) throws {
    guard let later = try replaced.generation(unlock, audit: { try audit.log() }), later > generation else { return }
    let what = "\(file): is a backup of \(later), and \(image) is at \(generation)"
    try Confirmation.ask(
      "\(Text.escaped(what)). Replace it by the earlier state?", nothing: "\(what); nothing was changed",
      otherwise: "name another file, or look why the image is older")
  }
}

/// A copy of an image that is about to get a name.
enum VerifiedCopy {
  /// Verifies every sector and every byte of the stream, as they come from the copy.
  ///
  /// - Returns: how many entries there are.
  static func check(_ copy: SecureVolume, of image: String, json: Bool) throws -> Int {
    let size = UInt64(copy.sectorSize)
    var progress = ProgressLine("verifying", total: copy.sectorCount * size, json: json)
    guard try copy.check(progress: { progress.update($0 * size) }).isEmpty else {
      throw Failure(.inputOutput, "\(image): its copy doesn't come back as it was written; is the device sound?")
    }
    let store = try BlobStore(copy)
    try store.check()
    return store.entries.count
  }
}
