import Anchors
import ArgumentParser
import Audit
import BlockIO
import Glibc
import Primitives
import ProgramIO
import SecureVolume

/// `vnvram convert`: the same store in an image with another block size.
struct ConvertCommand: Subcommand {
  static let configuration = CommandConfiguration(
    commandName: "convert", abstract: "Write an image of the same store with another block size.",
    discussion: """
      For a place where a power cut can tear more at once than the image was made for. The new image has the same \
      UUID, entries and keys, and the old one is left as it is: use one of them from then on. An anchor that is named \
      follows the new image, and refuses the old one. For a block device: write into a file, and copy that onto it.

      EXAMPLE
        vnvram convert web-1.img web-1.new --block-size 16384
      """)

  @Argument(help: "The image.", completion: .file())
  var image: String
  @Argument(help: "The file that gets the new image.", completion: .file())
  var file: String
  @OptionGroup var block: BlockSizeOption
  @OptionGroup var key: KeyOptions
  @OptionGroup var anchor: AnchorOptions
  @OptionGroup var audit: AuditOptions
  @OptionGroup var output: OutputOptions

  func validate() throws {
    if block.blockSize == nil { throw ValidationError("Say which block the new image is to have: --block-size.") }
  }

  func perform() throws -> Answer {
    guard try !NewFile.isTaken(file) else {
      throw Failure(.refused, "\(file): exists already; name another file")
    }
    let anchor = try self.anchor.make()
    let unlock = try key.unlock()
    let opened = try OpenedImage(
      image, .readOnly, unlock: unlock, anchor: anchor.map { .following($0) }, audit: { try audit.log() })
    let volume = try opened.encrypted(for: "convert")
    let blockSize = block.blockSize ?? volume.geometry.blockSize
    guard blockSize != volume.geometry.blockSize else {
      throw Failure(.refused, "\(image): has blocks of \(blockSize) bytes already; `vnvram backup` copies it")
    }
    guard let geometry = Geometry(holding: volume.geometry.volumeSize, blockSize: blockSize) else {
      throw Failure(.noSpace, "\(image): no image with blocks of \(blockSize) bytes holds it")
    }
    let new = try NewFile(at: file, size: geometry.imageSize)
    // Whoever has the one is to have the other.
    var status = stat()
    if unsafe stat(image, &status) == 0, status.st_mode & S_IFMT == S_IFREG { try new.inherit(from: status) }
    try audit.log().record(
      AuditRecord(
        .converted, store: image, uuid: volume.uuid, access: .read,
        detail: "to blocks of \(blockSize) bytes, into \(Path.absolute(file))"))
    var progress = ProgressLine("converting", total: geometry.volumeSize.value, json: output.json)
    try volume.convert(to: new.device, geometry: geometry) { progress.update($0 * UInt64(blockSize)) }
    anchor?.release()
    var generation = try verify(new.device, unlock)
    try new.place(replacing: false)
    // The lock goes with it.
    new.device.close()
    if let anchor, !(anchor is ExpectedGeneration) { generation = try follow(anchor, unlock) }
    return Answer(
      text: ["\(file): \(image) with blocks of \(blockSize) bytes, \(geometry.imageSize.value) bytes, verified"],
      fields: [
        ("image", .string(image)), ("file", .string(file)), ("uuid", .string(volume.uuid.description)),
        ("block_size", .integer(Int64(blockSize))), ("generation", .unsigned(generation.value)),
        ("size", .unsigned(geometry.imageSize.value)),
      ], warnings: opened.warnings)
  }

  /// Has the anchor follow the new image, which is written and durable whatever comes of that.
  private func follow(_ anchor: any FreshnessAnchor, _ unlock: borrowing Unlock) throws -> Generation {
    do {
      let converted = try OpenedImage(
        file, .readWrite, unlock: unlock, anchor: .accepting(anchor), audit: { try audit.log() })
      let generation = try converted.encrypted(for: "accept").generation
      try converted.close()
      return generation
    } catch {
      let failure = Failure(error)
      throw Failure(
        failure.status,
        "\(failure.message); \(file) is written and durable, and `vnvram accept-rollback` lets the anchor follow it")
    }
  }

  /// Reads all of it back.
  private func verify(_ device: FileDevice, _ unlock: borrowing Unlock) throws -> Generation {
    let opened = try OpenedImage(ReadOnlyView(device), unlock: unlock, audit: { try audit.log() })
    let converted = try opened.encrypted(for: "verify")
    _ = try VerifiedCopy.check(converted, of: image, json: output.json)
    return converted.generation
  }
}
