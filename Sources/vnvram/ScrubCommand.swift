import ArgumentParser
import Primitives

/// `vnvram scrub`: what was deleted or replaced goes from every address of the image.
struct ScrubCommand: Subcommand {
  static let configuration = CommandConfiguration(
    commandName: "scrub", abstract: "Overwrite what the journal still holds of deleted or replaced content.",
    discussion: """
      Copies that a file system, thin provisioning or flash keep below the image's addresses are out of reach.

      EXAMPLE
        vnvram scrub web-1.img
      """)

  @Argument(help: "The image.", completion: .file())
  var image: String
  @OptionGroup var opening: OpenOptions
  @OptionGroup var output: OutputOptions

  func perform() throws -> Answer {
    let (_, warnings) = try opening.change(image) { opened in
      _ = try opened.encrypted(for: "scrub")
    } _: { opened, _ in
      try opened.encrypted(for: "scrub").scrub()
    }
    return Answer(
      text: ["\(image): the journal was overwritten"], fields: [("image", .string(image))], warnings: warnings)
  }
}
