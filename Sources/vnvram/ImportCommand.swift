import ArgumentParser
import BlobStore
import Primitives
import ProgramIO

/// `vnvram import`: a file becomes an entry.
struct ImportCommand: Subcommand {
  static let configuration = CommandConfiguration(
    commandName: "import", abstract: "Put a file into an entry, which is added where there is none.",
    discussion: """
      A new entry gets --capacity, or the file's size rounded up to 4096 bytes. An entry that has content is replaced \
      with --force only; `vnvram put` is the command for that.

      EXAMPLE
        vnvram import web-1.img efivars OVMF_VARS.fd
      """)

  @Argument(help: "The image.", completion: .file())
  var image: String
  @Argument(help: "The entry's name.")
  var entry: String
  @Argument(help: "The file.", completion: .file())
  var file: String
  @Option(help: ArgumentHelp("The capacity of a new entry: digits, and K, M or G.", valueName: "size"))
  var capacity: String?
  @Flag(help: "Replace what the entry has.")
  var force = false
  @OptionGroup var opening: OpenOptions
  @OptionGroup var output: OutputOptions

  func perform() throws -> Answer {
    let name = try EntryArgument.name(entry)
    let content = try Content(path: file, json: output.json)
    guard let total = content.size else {
      throw Failure(.inputOutput, "\(file): is not a regular file; `vnvram put` takes what comes out of a pipe")
    }
    let rounded = ByteCount(max(total, 1)).roundedUp(to: 4096) ?? ByteCount(UInt64.max)
    let new = EntrySpecification(
      name: name, capacity: try capacity.map { try EntryArgument.capacity($0, of: name) } ?? rounded)
    let (size, warnings) = try opening.change(image) { opened in
      if let old = try opened.store.entry(name) {
        try check(old)
        return try content.prepare(for: old.specification, of: image)
      }
      try EntryChange.check(opened) { $0.append(new) }
      try content.prepare(for: new, of: image)
    } _: { opened, _ in
      // Two commits: cut off between them, the entry is there and empty, and the command can be run again.
      if try opened.store.entry(name) == nil { try opened.store.add(new) }
      let size = try content.stage(as: name, in: opened.store)
      try opened.store.commit()
      return size
    }
    return Answer(
      text: ["\(image): \(size) bytes are in entry \"\(name)\""],
      fields: [("image", .string(image)), ("entry", .string(name.text)), ("size", .unsigned(size))], warnings: warnings)
  }

  private func check(_ old: Entry) throws {
    guard force || old.size.value == 0 else {
      throw Failure(
        .refused,
        "\(image): entry \"\(old.name)\" has \(old.size.value) bytes of content already; say --force to replace it")
    }
    if capacity != nil {
      throw Failure(
        .usage, "\(image): entry \"\(old.name)\" is there already; `vnvram entry resize` changes its capacity")
    }
  }
}
