import ArgumentParser
import Primitives
import SecureVolume

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
      let volume = try opened.encrypted(for: "scrub")
      do throws(VolumeError) { try volume.scrub() } catch { try opened.goOn(after: error) }
    }
    return Answer(
      text: ["\(image): the journal was overwritten"], fields: [("image", .string(image))], warnings: warnings)
  }
}
