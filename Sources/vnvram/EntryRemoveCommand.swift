import ArgumentParser
import BlobStore

/// `vnvram entry remove`: an entry and its content go.
struct EntryRemoveCommand: Subcommand {
  static let configuration = CommandConfiguration(
    commandName: "remove", abstract: "Remove an entry and its content.",
    discussion: """
      An entry that has content is removed with --force only. `vnvram scrub` then takes what the journal still holds of it.

      EXAMPLE
        vnvram entry remove web-1.img notes --force
      """)

  @Argument(help: "The image.", completion: .file())
  var image: String
  @Argument(help: "The entry's name.")
  var entry: String
  @Flag(help: "Remove it even though it has content.")
  var force = false
  @OptionGroup var opening: OpenOptions
  @OptionGroup var output: OutputOptions

  func perform() throws -> Answer {
    let (old, warnings) = try opening.change(image) { opened in
      let old = try opened.existing(entry)
      guard force || old.size.value == 0 else {
        throw Failure(
          .refused,
          "\(image): entry \"\(old.name)\" has \(old.size.value) bytes of content, which would be lost; say --force")
      }
    } _: { opened, _ in
      let old = try opened.existing(entry)
      try opened.store.remove(old.name)
      return old
    }
    return EntryChange.answer(image, "removed", old.specification, warnings)
  }
}
