import ArgumentParser
import Primitives
import ProgramIO

/// `vnvram marker list`
struct MarkerListCommand: Subcommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "List the markers of this host.",
    discussion: """
      For each its path, whether a virtual machine has used that TPM, and the device.

      EXAMPLE
        vnvram marker list
      """)

  @OptionGroup var output: OutputOptions

  func perform() throws -> Answer {
    let markers = try HostMarkers().all()
    return Answer(
      text: markers.map {
        "\(Text.escaped($0.path))  \($0.isUsed ? "used" : "unused")\($0.device.isEmpty ? "" : "  \(Text.escaped($0.device))")"
      },
      fields: [
        (
          "markers",
          .array(
            markers.map {
              .object([("path", .string($0.path)), ("device", .string($0.device)), ("used", .bool($0.isUsed))])
            })
        )
      ])
  }
}
