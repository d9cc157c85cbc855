import ArgumentParser
import BlobStore
import Primitives
import SecureVolume

/// Which entries an image is for, and how it is laid out: what determines its size.
struct LayoutOptions: ParsableArguments {
  @OptionGroup var entries: EntryOptions

  @OptionGroup var block: BlockSizeOption

  func specifications() throws -> [EntrySpecification] { try entries.specifications() }
  func layout() throws -> StreamLayout { try entries.layout() }

  /// The smallest image that holds `layout`.
  func geometry(for layout: StreamLayout, blockSize: Int) throws -> Geometry {
    guard let geometry = Geometry(holding: layout.size, blockSize: blockSize) else {
      throw Failure(
        .noSpace,
        "the entries need \(layout.size.value) bytes, and a store has at most \(Geometry.maximumVolumeSize.value); "
          + "take fewer or smaller ones")
    }
    return geometry
  }
}
