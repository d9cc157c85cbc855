import ArgumentParser
import BlobStore
import Primitives
import SecureVolume

/// Which entries an image is for, and how it is laid out: what determines its size.
struct LayoutOptions: ParsableArguments {
  @OptionGroup var entries: EntryOptions

  @Option(help: ArgumentHelp("The unit of encryption in bytes, 512 or 4096.", valueName: "bytes"))
  var sectorSize = 4096

  func validate() throws {
    guard sectorSize == 512 || sectorSize == 4096 else { throw ValidationError("A sector has 512 or 4096 bytes.") }
  }

  func specifications() throws -> [EntrySpecification] { try entries.specifications() }
  func layout() throws -> StreamLayout { try entries.layout() }

  /// The smallest image that holds `layout`.
  func geometry(for layout: StreamLayout, blockSize: Int) throws -> Geometry {
    guard let geometry = Geometry(holding: layout.size, sectorSize: sectorSize, blockSize: blockSize) else {
      throw Failure(
        .noSpace,
        "the entries need \(layout.size.value) bytes, more than a store of \(sectorSize)-byte sectors can have; "
          + (sectorSize == 512
            ? "take sectors of 4096 bytes, or fewer or smaller entries" : "take fewer or smaller ones"))
    }
    return geometry
  }
}
