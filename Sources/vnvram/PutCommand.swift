import ArgumentParser
import BlobStore
import Primitives
import ProgramIO

/// `vnvram put`: new content for an entry, in one commit.
struct PutCommand: Subcommand {
  static let configuration = CommandConfiguration(
    commandName: "put", abstract: "Replace an entry's content by that of a file or standard input.",
    discussion: """
      All or nothing: until the command succeeds, the old content is what the entry has, even if the power fails. \
      Content that is larger than the entry's capacity is refused before anything is changed.

      EXAMPLE
        vnvram put web-1.img permall permall.bin
      """)

  @Argument(help: "The image.", completion: .file())
  var image: String
  @Argument(help: "The entry's name.")
  var entry: String
  @Argument(help: "The file; standard input by default, and for -.", completion: .file())
  var file: String = "-"
  @OptionGroup var opening: OpenOptions
  @OptionGroup var output: OutputOptions

  func perform() throws -> Answer {
    let content = try Content(path: file, json: output.json)
    let (size, warnings) = try opening.change(image) { opened in
      try content.prepare(for: opened.existing(entry).specification, of: image)
    } _: { opened, _ in
      let size = try content.stage(as: opened.existing(entry).name, in: opened.store)
      try opened.store.commit()
      return size
    }
    return Answer(
      fields: [("image", .string(image)), ("entry", .string(entry)), ("size", .unsigned(size))], warnings: warnings)
  }
}
