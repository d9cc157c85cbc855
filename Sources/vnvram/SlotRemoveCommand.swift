import ArgumentParser
import Audit
import Primitives
import SecureVolume

/// `vnvram slot remove`: a key, recovery key or passphrase opens an image no longer.
struct SlotRemoveCommand: Subcommand {
  static let configuration = CommandConfiguration(
    commandName: "remove", abstract: "Remove what opens an image; its wrap of the store key is overwritten.",
    discussion: """
      Any other key of the image authorises it; the last slot stays. Whoever had both the key and an earlier copy of \
      the image can still open that copy.

      EXAMPLE
        vnvram slot remove web-1.img web-1-old
      """)

  @Argument(help: "The image.", completion: .file())
  var image: String
  @Argument(help: "The slot's name.")
  var name: String
  @OptionGroup var opening: OpenOptions
  @OptionGroup var output: OutputOptions

  func perform() throws -> Answer {
    let (_, warnings) = try opening.change(image) { opened in
      try check(opened.encrypted(for: "remove"))
    } _: { opened, slot in
      let volume = try opened.encrypted(for: "remove")
      do throws(VolumeError) { try volume.removeSlot(named: name) } catch { try opened.goOn(after: error) }
      try opening.audit.log().record(
        AuditRecord(
          .removed, store: image, uuid: volume.uuid, key: name, kind: slot.kind.label, slot: slot.index, access: .write)
      )
    }
    return Answer(
      text: ["\(image): slot \(Text.quoted(name)) was removed"],
      fields: [("image", .string(image)), ("slot", .string(name))], warnings: warnings)
  }

  private func check(_ volume: SecureVolume) throws -> SlotDescription {
    guard let slot = volume.slots.first(where: { $0.name == name }) else {
      throw Failure(.notFound, "\(image): has no slot \(Text.quoted(name)); `vnvram slot list` names them")
    }
    guard volume.slots.count > 1 else {
      throw Failure(
        .refused, "\(image): \(Text.quoted(name)) is the only slot; without it nobody could ever open the image again")
    }
    return slot
  }
}
