import ArgumentParser
import BlobStore
import Primitives
import ProgramIO

/// `vnvram get`: an entry's content.
struct GetCommand: Subcommand {
  static let configuration = CommandConfiguration(
    commandName: "get", abstract: "Write an entry's content to standard output or a file.",
    discussion: """
      A file appears when all of it is there and verified, readable by its owner alone. Standard output gets what \
      has been verified, piece by piece: look at the exit status before you use it.

      EXAMPLE
        vnvram get web-1.img permall -o permall.bin
      """)

  @Argument(help: "The image.", completion: .file())
  var image: String
  @Argument(help: "The entry's name.")
  var entry: String
  @OptionGroup var destination: DestinationOptions
  @OptionGroup var opening: OpenOptions
  @OptionGroup var output: OutputOptions

  func validate() throws { try destination.check(output) }

  func perform() throws -> Answer {
    let opened = try opening.open(image)
    let store = try opened.store
    let entry = try opened.existing(entry)
    let name = entry.name
    var file = try destination.open()
    var progress = ProgressLine(name.text, total: entry.size.value, json: output.json)
    var window = ByteBuffer(count: 1 << 18)
    var offset: UInt64 = 0
    // Once at least: an empty entry is verified, too.
    repeat {
      let count = try store.read(name, at: ByteOffset(offset), into: window.mutableSpan)
      try file.write(window.span(0..<count))
      offset += UInt64(count)
      progress.update(offset)
    } while offset < entry.size.value
    try file.finish()
    return Answer(
      fields: [
        ("image", .string(image)), ("entry", .string(name.text)), ("size", .unsigned(entry.size.value)),
        ("file", destination.file.map { .string($0) } ?? .null),
      ], warnings: opened.warnings)
  }
}

/// Where content goes.
struct DestinationOptions: ParsableArguments {
  @Option(
    name: [.customShort("o"), .customLong("output")],
    help: ArgumentHelp(
      "The file that gets it; - for standard output even where that is a terminal.", valueName: "file"),
    completion: .file())
  var file: String?

  /// With `--json` standard output is for the object.
  func check(_ output: OutputOptions) throws {
    if output.json, file == nil || file == "-" {
      throw ValidationError("With --json, standard output is for the object: name a file with -o.")
    }
  }

  /// Throws `.refused` for a terminal, which binary content could steer.
  func open() throws -> OutputFile {
    if file == nil, Terminal.isTerminal(1) {
      throw Failure(
        .refused, "standard output is a terminal, and the content is binary; name a file with -o, or insist with -o -")
    }
    return try OutputFile(path: file)
  }
}
