import ArgumentParser
import BlobStore
import Primitives
import SecureVolume

/// `vnvram size`: how large an image has to be. Touches nothing.
struct SizeCommand: Subcommand {
  static let configuration = CommandConfiguration(
    commandName: "size", abstract: "Print how many bytes an image needs for its entries.",
    discussion: """
      On a block device with physical blocks of more than 4096 bytes it can be more; `vnvram format` says so \
      before it writes anything.

      EXAMPLE
        vnvram size --profile tpm2 --entry notes=4K
      """)

  @OptionGroup var layout: LayoutOptions
  @Flag(help: "For an image without encryption.")
  var unencrypted = false
  @OptionGroup var output: OutputOptions

  func perform() throws -> Answer {
    let layout = try layout.layout()
    let size = unencrypted ? layout.size : try self.layout.geometry(for: layout, blockSize: 4096).imageSize
    let entries = try self.layout.specifications()
    return Answer(
      text: ["\(size.value)"],
      fields: [
        ("image_size", .unsigned(size.value)), ("stream_size", .unsigned(layout.size.value)),
        ("sector_size", .integer(Int64(self.layout.sectorSize))), ("encrypted", .bool(!unencrypted)),
        (
          "entries",
          .array(entries.map { ["name": .string($0.name.text), "capacity": .unsigned($0.capacity.value)] })
        ),
      ])
  }
}
