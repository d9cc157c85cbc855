import ArgumentParser
import BlockIO
import Primitives
import ProgramIO
import SecureVolume

/// `vnvram info`: what an image says of itself without any key. Nothing of it is authenticated.
struct InfoCommand: Subcommand {
  static let configuration = CommandConfiguration(
    commandName: "info", abstract: "Show what an image says of itself without a key.",
    discussion: """
      Nothing of this is authenticated: whoever could write to the image could have written anything. `vnvram check` \
      tells, with the key, whether it is true.

      EXAMPLE
        vnvram info web-1.img
      """)

  @Argument(help: "The image: a file or a block device.", completion: .file())
  var image: String
  @OptionGroup var output: OutputOptions

  func perform() throws -> Answer {
    let device = try FileDevice.open(path: image, access: .readOnly)
    let sealed = try ImageKind.sealed(device)
    let geometry = sealed.geometry
    var answer = Answer()
    answer.fields = [
      ("image", .string(image)), ("authenticated", false), ("uuid", .string(sealed.uuid.description)),
      ("version", .integer(Int64(SealedVolume.formatVersion))), ("encrypted", true),
      ("generation", .unsigned(sealed.generation.value)), ("closed_cleanly", .bool(sealed.wasClosedCleanly)),
      ("block_size", geometry.map { .integer(Int64($0.blockSize)) } ?? .null),
      ("sectors", geometry.map { .unsigned($0.sectorCount) } ?? .null),
      ("volume_size", geometry.map { .unsigned($0.volumeSize.value) } ?? .null),
      ("image_size", geometry.map { .unsigned($0.imageSize.value) } ?? .null),
      ("file_size", .unsigned(device.size.value)), ("keys", .array(sealed.keyNames.map { .string($0) })),
      ("slots", .array(sealed.slots.map(\.json))),
    ]
    answer.text = Text.table([
      ["image", image],
      ["uuid", sealed.uuid.description],
      ["version", "\(SealedVolume.formatVersion)"],
      ["generation", "\(sealed.generation.value), as of the last checkpoint"],
      ["closed", sealed.wasClosedCleanly ? "cleanly" : "not cleanly: in use, or ended by a power cut or a crash"],
      ["volume", geometry.map { "\($0.volumeSize.value) bytes in \($0.sectorCount) sectors" } ?? "contradictory"],
      ["block", geometry.map { "\($0.blockSize) bytes" } ?? "contradictory"],
      [
        "image size",
        geometry.map { "\($0.imageSize.value) bytes; the file has \(device.size.value)" } ?? "contradictory",
      ],
      ["keys", sealed.keyNames.isEmpty ? "none" : sealed.keyNames.joined(separator: ", ")],
    ])
    answer.text +=
      [""] + SlotListCommand.table(sealed.slots) + [
        "", "None of this is authenticated yet: it was read without a key.",
      ]
    return answer
  }
}

extension SlotDescription {
  var json: JSON {
    .object([
      ("index", .integer(Int64(index))), ("kind", .string(kind.label)), ("name", .string(name)),
      ("created", .unsigned(created)),
    ])
  }
}
