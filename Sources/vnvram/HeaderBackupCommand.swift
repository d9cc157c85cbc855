import ArgumentParser
import Audit
import BlockIO
import Primitives
import ProgramIO
import SecureVolume

/// `vnvram header backup`: an image's header, authenticated, in a file.
struct HeaderBackupCommand: Subcommand {
  static let configuration = CommandConfiguration(
    commandName: "backup", abstract: "Save an image's header in a file.",
    discussion: """
      It fits the image only as long as nothing is committed to it: `vnvram backup` saves what is in it, too. The file has \
      the slots: whoever has it and a key of its time opens the image's copies with them, though the slot be removed since. --force replaces a \
      header that was saved from the same store, and nothing else.

      EXAMPLE
        vnvram header backup web-1.img web-1.header
      """)

  @Argument(help: "The image.", completion: .file())
  var image: String
  @Argument(help: "The file that gets the header.", completion: .file())
  var file: String
  @Flag(help: "Replace an earlier saved header of the same store.")
  var force = false
  @OptionGroup var opening: OpenOptions
  @OptionGroup var output: OutputOptions

  func perform() throws -> Answer {
    try NewFile.requireFree(file, force: force)
    try NewFile.requireOther(file, than: image)
    let opened = try opening.open(image)
    let volume = try opened.encrypted(for: "save of its header")
    let replaced = try ReplacedFile(file, by: .header, of: volume.uuid, force: force)
    let saved = try volume.savedHeader()
    // Standard input and output have no place.
    let place = file == "-" ? file : Path.absolute(file)
    try opening.audit.log().record(
      AuditRecord(
        .backedUp, store: image, uuid: volume.uuid, access: .read, detail: "its header, into \(place)"))
    var out = try OutputFile(path: file)
    try out.write(saved.span)
    try withExtendedLifetime(replaced) { try out.finish() }
    return Answer(
      text: [
        "\(file): the header of \(image), \(volume.generation), \(Text.count(volume.slots.count, "slot", "slots"))"
      ],
      fields: [
        ("image", .string(image)), ("file", .string(file)), ("uuid", .string(volume.uuid.description)),
        ("generation", .unsigned(volume.generation.value)), ("slots", .array(volume.slots.map(\.json))),
      ], warnings: opened.warnings)
  }
}
