import ArgumentParser
import BlobStore
import Primitives

/// `vnvram entry resize`: another capacity for an entry.
struct EntryResizeCommand: Subcommand {
  static let configuration = CommandConfiguration(
    commandName: "resize", abstract: "Give an entry another capacity, and keep its content.",
    discussion: """
      EXAMPLE
        vnvram entry resize web-1.img notes=16K
      """)

  @Argument(help: "The image.", completion: .file())
  var image: String
  @Argument(help: ArgumentHelp("The entry and its new capacity.", valueName: "name=size"))
  var entry: String
  @OptionGroup var opening: OpenOptions
  @OptionGroup var output: OutputOptions

  func perform() throws -> Answer {
    let new = try EntryArgument.parse(entry)
    let (_, warnings) = try opening.change(image) { opened in
      let old = try opened.existing(new.name.text)
      guard old.size <= new.capacity else {
        throw Failure(
          .noSpace,
          "\(image): entry \"\(new.name)\" has \(old.size.value) bytes of content, which \(new.capacity.value) "
            + "don't hold; nothing was changed")
      }
      try EntryChange.check(opened) { all in
        for index in all.indices where all[index].name == new.name { all[index] = new }
      }
    } _: { opened, _ in
      try opened.store.resize(new.name, capacity: new.capacity)
    }
    return EntryChange.answer(image, "resized", new, warnings)
  }
}
