import ArgumentParser
import BlockIO
import Primitives
import ProgramIO
import SecureVolume

/// `vnvram slot list`: what opens an image. Without a key, so not authenticated.
struct SlotListCommand: Subcommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "List what opens an image: keys, recovery keys, passphrases.",
    discussion: """
      No key is needed, and so nothing of this is authenticated.

      EXAMPLE
        vnvram slot list web-1.img
      """)

  @Argument(help: "The image.", completion: .file())
  var image: String
  @OptionGroup var output: OutputOptions

  func perform() throws -> Answer {
    let sealed = try ImageKind.sealed(try FileDevice.open(path: image, access: .readOnly))
    return Answer(
      text: Self.table(sealed.slots),
      fields: [
        ("image", .string(image)), ("authenticated", false), ("slots", .array(sealed.slots.map(\.json))),
      ])
  }

  static func table(_ slots: [SlotDescription]) -> [String] {
    Text.table(
      [["SLOT", "KIND", "NAME", "CREATED"]]
        + slots.map { ["\($0.index)", $0.kind.label, $0.name, WallClock.text($0.created)] })
  }
}
