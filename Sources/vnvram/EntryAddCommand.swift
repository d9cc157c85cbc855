import ArgumentParser
import BlobStore

/// `vnvram entry add`: a new, empty entry.
struct EntryAddCommand: Subcommand {
  static let configuration = CommandConfiguration(
    commandName: "add", abstract: "Add an empty entry.",
    discussion: """
      EXAMPLE
        vnvram entry add web-1.img notes=4K
      """)

  @Argument(help: "The image.", completion: .file())
  var image: String
  @Argument(help: ArgumentHelp("The entry and its capacity.", valueName: "name=size"))
  var entry: String
  @OptionGroup var opening: OpenOptions
  @OptionGroup var output: OutputOptions

  func perform() throws -> Answer {
    let new = try EntryArgument.parse(entry)
    let (_, warnings) = try opening.change(image) { opened in
      guard try opened.store.entry(new.name) == nil else {
        throw Failure(.refused, "\(image): has an entry \"\(new.name)\" already")
      }
      try EntryChange.check(opened) { $0.append(new) }
    } _: { opened, _ in
      try opened.store.add(new)
    }
    return EntryChange.answer(image, "added", new, warnings)
  }
}
