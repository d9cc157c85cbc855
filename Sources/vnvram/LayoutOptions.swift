import ArgumentParser
import BlobStore
import Primitives
import SecureVolume

/// Which entries an image is for, and how it is laid out: what determines its size.
struct LayoutOptions: ParsableArguments {
  @Option(help: ArgumentHelp("An entry and its capacity: digits, and K, M or G.", valueName: "name=size"))
  var entry: [String] = []

  @Option(help: "The entries of a kind of device, before those of --entry.")
  var profile: Profile?

  @Option(help: ArgumentHelp("The unit of encryption in bytes, 512 or 4096.", valueName: "bytes"))
  var sectorSize = 4096

  func validate() throws {
    guard sectorSize == 512 || sectorSize == 4096 else { throw ValidationError("A sector has 512 or 4096 bytes.") }
  }

  /// Profile first. Throws `.usage` where a name comes twice.
  func specifications() throws -> [EntrySpecification] {
    var all: [EntrySpecification] = []
    for (name, capacity) in profile?.entries ?? [] {
      all.append(EntrySpecification(name: try EntryName(name), capacity: ByteCount(capacity)))
    }
    for text in entry { all.append(try EntryArgument.parse(text)) }
    var seen = Set<EntryName>()
    for specification in all where !seen.insert(specification.name).inserted {
      throw Failure(.usage, "entry \"\(specification.name)\" comes twice")
    }
    return all
  }

  /// The stream of these entries.
  func layout() throws -> StreamLayout {
    do { return try StreamLayout(try specifications()) } catch let error as BlobStoreError {
      throw Failure(error.status, error.detail)
    }
  }

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
