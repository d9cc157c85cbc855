import ArgumentParser
import BlobStore
import Primitives

/// Which entries an image has.
struct EntryOptions: ParsableArguments {
  @Option(help: ArgumentHelp("An entry and its capacity: digits, and K, M or G.", valueName: "name=size"))
  var entry: [String] = []

  @Option(help: "The entries of a kind of device, before those of --entry.")
  var profile: DeviceProfile?

  /// Profile first. Throws `.usage` where a name comes twice.
  func specifications() throws -> [EntrySpecification] {
    var all: [EntrySpecification] = []
    all += profile?.entries ?? []
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
}

extension DeviceProfile: ExpressibleByArgument {}
