import ArgumentParser
import Primitives

/// `vnvram ls`: the entries of an image.
struct LsCommand: Subcommand {
  static let configuration = CommandConfiguration(
    commandName: "ls", abstract: "List the entries of an image.",
    discussion: """
      EXAMPLE
        vnvram ls web-1.img
      """)

  @Argument(help: "The image.", completion: .file())
  var image: String
  @OptionGroup var opening: OpenOptions
  @OptionGroup var output: OutputOptions

  func perform() throws -> Answer {
    let opened = try opening.open(image)
    let store = try opened.store
    let entries = store.entries
    var answer = Answer(warnings: opened.warnings)
    answer.fields = [
      ("image", .string(image)), ("stream_size", .unsigned(store.streamSize.value)),
      (
        "entries",
        .array(
          entries.map { entry in
            .object([
              ("name", .string(entry.name.text)), ("size", .unsigned(entry.size.value)),
              ("capacity", .unsigned(entry.capacity.value)),
            ])
          })
      ),
    ]
    guard !entries.isEmpty else { return answer }
    let rows = entries.map { ["\($0.size.value)", "\($0.capacity.value)", $0.name.text] }
    answer.text = Text.table([["SIZE", "CAPACITY", "NAME"]] + rows, right: [0, 1])
    return answer
  }
}
