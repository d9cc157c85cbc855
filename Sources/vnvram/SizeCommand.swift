import ArgumentParser
import BlobStore
import Primitives
import SecureVolume

/// `vnvram size`: how large an image has to be. Touches nothing.
struct SizeCommand: Subcommand {
  static let configuration = CommandConfiguration(
    commandName: "size", abstract: "Print how many bytes an image needs for its entries.",
    discussion: """
      Where a power cut can tear more than 4096 bytes at once it is more: say --block-size. `vnvram format` finds the \
      block of its place by itself, and says what is needed before it writes anything.

      EXAMPLE
        vnvram size --profile tpm2 --entry notes=4K
      """)

  @OptionGroup var layout: LayoutOptions
  @Flag(help: "For an image without encryption.")
  var unencrypted = false
  @OptionGroup var output: OutputOptions

  func perform() throws -> Answer {
    let layout = try layout.layout()
    let blockSize = self.layout.block.blockSize ?? 4096
    let size = unencrypted ? layout.size : try self.layout.geometry(for: layout, blockSize: blockSize).imageSize
    let entries = try self.layout.specifications()
    return Answer(
      text: ["\(size.value)"],
      fields: [
        ("image_size", .unsigned(size.value)), ("stream_size", .unsigned(layout.size.value)),
        ("block_size", .integer(Int64(blockSize))), ("encrypted", .bool(!unencrypted)),
        (
          "entries",
          .array(entries.map { ["name": .string($0.name.text), "capacity": .unsigned($0.capacity.value)] })
        ),
      ])
  }
}
