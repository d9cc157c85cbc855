import ArgumentParser
import BlobStore
import BlockIO
import Primitives
import ProgramIO
import SecureVolume

/// `vnvram import-stream`: the entries of a plain stream come into an image.
struct ImportStreamCommand: Subcommand {
  static let configuration = CommandConfiguration(
    commandName: "import-stream", abstract: "Bring the entries of a plain 2013 stream into an image.",
    discussion: """
      The image is one that is formatted. Entries that it hasn't are added with the stream's capacities; then all \
      contents go in with one commit, so that the image has all of them or none. An entry that has content is replaced \
      with --force only. Streams of this program (`vnvram dump --der`) give the entries' content; in those of other \
      devices each blob's DER is taken as it is.

      EXAMPLE
        vnvram import-stream web-1.img old.der
      """)

  @Argument(help: "The image.", completion: .file())
  var image: String
  @Argument(help: "The stream: a file or a block device.", completion: .file())
  var stream: String
  @Flag(help: "Replace what entries have.")
  var force = false
  @OptionGroup var opening: OpenOptions
  @OptionGroup var output: OutputOptions

  func perform() throws -> Answer {
    let device = try FileDevice.open(path: stream, access: .readOnly)
    let source: StreamSource = { (offset, destination) throws(BlobStoreError) in
      do throws(BlockError) { try device.read(at: offset, into: destination) } catch {
        throw BlobStoreError(reading: error)
      }
    }
    let imported = try ImportedStream(name: stream, total: device.size, from: source)
    let (_, warnings) = try opening.change(image) { opened in
      try check(imported, against: opened)
    } _: { opened, _ in
      let store = try opened.store
      for item in imported.items where store.entry(item.specification.name) == nil {
        try store.add(item.specification)
      }
      try bring(imported, into: store, from: source)
    }
    let rows = imported.items.map { ["\($0.size.value)", $0.specification.name.text] }
    return Answer(
      text: Text.table([["SIZE", "NAME"]] + rows, right: [0]),
      fields: [
        ("image", .string(image)), ("stream", .string(stream)), ("has_sizes", .bool(imported.hasSizes)),
        ("entries", .array(imported.items.map(Self.json))),
      ], warnings: warnings)
  }

  private func check(_ imported: ImportedStream, against opened: OpenedImage) throws {
    for item in imported.items {
      let name = item.specification.name
      guard let old = try opened.store.entry(name) else { continue }
      guard force || old.size.value == 0 else {
        throw Failure(
          .refused,
          "\(image): entry \"\(name)\" has \(old.size.value) bytes of content already; say --force to replace it")
      }
      guard item.size <= old.capacity else {
        throw Failure(
          .noSpace,
          "\(image): entry \"\(name)\" has room for \(old.capacity.value) bytes, and \(stream) has \(item.size.value); "
            + "nothing was changed; `vnvram entry resize` gives it more room")
      }
    }
    try EntryChange.check(opened) { all in
      let names = Set(all.map(\.name))
      all += imported.specifications.filter { !names.contains($0.name) }
    }
  }

  private func bring(_ imported: ImportedStream, into store: BlobStore, from source: StreamSource) throws {
    var progress = ProgressLine("importing", total: imported.items.reduce(0) { $0 + $1.size.value }, json: output.json)
    var done: UInt64 = 0
    try store.importContents(of: imported) { (offset, destination) throws(BlobStoreError) in
      done += UInt64(destination.count)
      try source(offset, destination)
      progress.update(done)
    }
  }

  private static func json(_ item: ImportedStream.Item) -> JSON {
    .object([
      ("name", .string(item.specification.name.text)), ("size", .unsigned(item.size.value)),
      ("capacity", .unsigned(item.specification.capacity.value)),
    ])
  }
}

extension BlobStoreError {
  /// What reading a stream from a device met.
  fileprivate init(reading error: BlockError) {
    self.init(
      .volume(VolumeError(.device(error.status), store: error.device, error.detail)), store: error.device, error.detail)
  }
}
