import ArgumentParser
import BlobStore
import Primitives
import ProgramIO

/// `vnvram dump`: the decrypted stream.
struct DumpCommand: Subcommand {
  static let configuration = CommandConfiguration(
    commandName: "dump", abstract: "Write all of an image's content, decrypted, as one DER stream.",
    discussion: """
      It is the plain form of FORMAT.md, section 9: `openssl asn1parse -inform DER` reads it, and `vnvram import-stream` \
      takes it. Every secret in the image is in it, and nothing protects it.

      EXAMPLE
        vnvram dump web-1.img --der -o web-1.der
      """)

  @Argument(help: "The image.", completion: .file())
  var image: String
  @Flag(help: "The form of the dump. There is no other.")
  var der = false
  @OptionGroup var destination: DestinationOptions
  @OptionGroup var opening: OpenOptions
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard der else { throw ValidationError("Say --der: the form of the dump.") }
    try destination.check(output)
  }

  func perform() throws -> Answer {
    let opened = try opening.open(image)
    var file = try destination.open()
    let store = try opened.store
    let size = store.streamSize.value
    let progress = ProgressLine("dumping", total: size, json: output.json)
    var done: UInt64 = 0
    try store.dump { piece in
      try file.write(piece)
      done += UInt64(piece.count)
      progress.update(done)
    }
    try file.finish()
    return Answer(
      fields: [
        ("image", .string(image)), ("size", .unsigned(size)), ("file", destination.file.map { .string($0) } ?? .null),
      ], warnings: opened.warnings)
  }
}
