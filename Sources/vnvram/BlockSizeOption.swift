import ArgumentParser

/// `--block-size`: the unit that a power cut may tear, for a layout other than the place's own.
struct BlockSizeOption: ParsableArguments {
  static let sizes = [4096, 8192, 16384, 32768, 65536]

  @Option(
    help: ArgumentHelp(
      "The block, in bytes: 4096, 8192, 16384, 32768 or 65536. By default what a power cut can tear there.",
      valueName: "bytes"))
  var blockSize: Int?

  func validate() throws {
    guard blockSize.map(Self.sizes.contains) ?? true else {
      throw ValidationError("A block has 4096, 8192, 16384, 32768 or 65536 bytes.")
    }
  }
}
