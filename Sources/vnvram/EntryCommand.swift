import ArgumentParser
import BlobStore
import Primitives

/// `vnvram entry`: which entries an image has.
struct EntryCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "entry", abstract: "Add, resize and remove entries.",
    discussion: """
      Each is one atomic change, and keeps the content of all other entries. An image has room for more if it was \
      formatted with --size.
      """,
    subcommands: [EntryAddCommand.self, EntryResizeCommand.self, EntryRemoveCommand.self])
}

/// What a change of the entries needs to know before it begins.
enum EntryChange {
  /// Whether the entries of `opened`, changed by `change`, fit.
  static func check(
    _ opened: OpenedImage, _ change: (inout [EntrySpecification]) -> Void
  ) throws {
    var specifications = try opened.store.entries.map(\.specification)
    change(&specifications)
    let layout: StreamLayout
    do { layout = try StreamLayout(specifications) } catch {
      throw Failure(error.status, "\(opened.name): \(error.detail)")
    }
    let available = opened.volumeSize
    guard layout.size <= available else {
      throw Failure(
        .noSpace,
        "\(opened.name): has room for \(available.value) bytes of entries, and these need \(layout.size.value); nothing was "
          + "changed; format a larger image (--size) and bring the entries over with `vnvram dump` and `import-stream`",
        fields: [("available", .unsigned(available.value)), ("needed", .unsigned(layout.size.value))])
    }
  }

  static func answer(_ image: String, _ verb: String, _ entry: EntrySpecification, _ warnings: [String]) -> Answer {
    Answer(
      text: ["\(image): entry \"\(entry.name)\" of \(entry.capacity.value) bytes was \(verb)"],
      fields: [
        ("image", .string(image)), ("entry", .string(entry.name.text)), ("capacity", .unsigned(entry.capacity.value)),
      ], warnings: warnings)
  }
}
