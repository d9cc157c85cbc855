import ArgumentParser
import Audit
import BlockIO
import Primitives
import ProgramIO
import SecureVolume

/// `vnvram header restore`: a saved header for an image whose own copies are both damaged, if it fits.
struct HeaderRestoreCommand: Subcommand {
  static let configuration = CommandConfiguration(
    commandName: "restore", abstract: "Put a saved header back where both copies are damaged.",
    discussion: """
      It must fit what is in the image, to the byte, and the journal must hold nothing newer; where anything was committed \
      since, `vnvram salvage` is the way. An image of which a header copy still verifies keeps its own, whether or not a key \
      for it is here: so no slot that was removed comes back over it. The slots of the saved header open the image then; \
      they are shown, and it takes --force.

      EXAMPLE
        vnvram header restore web-1.img web-1.header --force
      """)

  @Argument(help: "The image.", completion: .file())
  var image: String
  @Argument(help: "The saved header.", completion: .file())
  var file: String
  @Flag(help: "Take the slots of the saved header.")
  var force = false
  @OptionGroup var key: KeyOptions
  @OptionGroup var anchor: AnchorOptions
  @OptionGroup var audit: AuditOptions
  @OptionGroup var output: OutputOptions

  func perform() throws -> Answer {
    let unlock = try key.unlock()
    let anchor = try self.anchor.make().map { AnchorUse.following($0) }
    let device = try FileDevice.open(path: image, access: .readWrite)
    // Read once: what is verified here is what is written below.
    let reading = HeaderOverlay(ReadOnlyView(device), saved: try saved())
    // All of it must verify before anything is written.
    let fitting: OpenedImage
    do {
      fitting = try OpenedImage(reading, unlock: unlock, anchor: anchor, audit: { try audit.log() })
      try requireEverySector(try fitting.encrypted(for: "restore"))
    } catch { throw misfit(Failure(error)) }
    let volume = try fitting.encrypted(for: "restore")
    _ = try fitting.store
    try refuseAuthentic(device, volume)
    try volume.requireNothingLater()
    let slots = volume.slots
    let names = slots.map { "\($0.kind.label) \(Text.quoted($0.name))" }.joined(separator: ", ")
    guard force else {
      throw Failure(
        .refused, "\(image): with that header it would open with \(names); say --force if they are to open it",
        fields: [("slots", .array(slots.map(\.json)))])
    }
    anchor?.anchor.release()
    // Standard input and output have no place.
    let place = file == "-" ? file : Path.absolute(file)
    try audit.log().record(
      AuditRecord(
        .restored, store: image, uuid: volume.uuid, access: .write,
        detail: "its header, from \(place), with \(names)"))
    let opened = try OpenedImage(
      reading.over(device), unlock: unlock, anchor: anchor, audit: { try audit.log() })
    try opened.close()
    return Answer(
      text: ["\(image): has its header back, \(volume.generation); it opens with \(names)"],
      fields: [
        ("image", .string(image)), ("file", .string(file)), ("uuid", .string(volume.uuid.description)),
        ("generation", .unsigned(volume.generation.value)), ("slots", .array(slots.map(\.json))),
      ])
  }

  /// The leaf table that the saved header names may be there whole, though sectors were written since: only they tell.
  private func requireEverySector(_ volume: SecureVolume) throws {
    var progress = ProgressLine("verifying", total: volume.geometry.volumeSize.value, json: output.json)
    let findings = try volume.check { progress.update($0 * UInt64(volume.sectorSize)) }
    guard let damage = findings.first(where: { $0.severity != .notice }) else { return }
    throw Failure(.notAuthentic, "\(image): \(damage.detail), at \(damage.offset)")
  }

  /// What opening the image with the saved header met, told of the file: the image alone is no image at all.
  private func misfit(_ failure: Failure) -> Failure {
    switch failure.status {
    case .notAnImage:
      return Failure(.notAnImage, "\(file): is no saved header of this version", fields: failure.fields)
    case .notAuthentic:
      let prefix = "\(image): "
      let text = failure.message.hasPrefix(prefix) ? failure.message.dropFirst(prefix.count) : failure.message[...]
      let why = text.prefix { $0 != ";" }
      return Failure(
        .notAuthentic,
        "\(file): doesn't fit \(image) (\(why)): it is of another image or from before or after a commit, or more than "
          + "the header is damaged; nothing was changed; find the header that fits, or `vnvram restore` a backup",
        fields: failure.fields)
    default: return failure
    }
  }

  private func saved() throws -> ByteBuffer {
    let input = try InputFile(path: file)
    var bytes = ByteBuffer(count: HeaderOverlay.size + 1)
    guard try input.read(into: bytes.mutableSpan) == HeaderOverlay.size else {
      throw Failure(.notAnImage, "\(file): is no saved header: it would have \(HeaderOverlay.size) bytes")
    }
    var exact = ByteBuffer(count: HeaderOverlay.size)
    exact.copy(from: bytes.span(0..<HeaderOverlay.size))
    return exact
  }

  /// An authentic header is the one that counts, and says which slots there are, whether or not a key for one is here.
  private func refuseAuthentic(_ device: FileDevice, _ saved: SecureVolume) throws {
    // The same header as the copy that is left puts nothing back but the other copy.
    guard let present = try saved.slotsOfOtherHeader(on: ReadOnlyView(device)) else { return }
    let removed = saved.slots.map(\.name).filter { name in !present.contains { $0.name == name } }
    let slots = removed.isEmpty ? "" : "; it would bring back " + removed.map(Text.quoted).joined(separator: ", ")
    throw Failure(
      .refused,
      "\(image): a copy of its own header verifies, and another one than the saved\(slots); if it doesn't open, "
        + "`vnvram salvage` recovers what is in it",
      fields: [("removed_slots", .array(removed.map { .string($0) }))])
  }
}

/// A device that is open for writing, for reading alone.
final class ReadOnlyView: BlockDevice {
  private let device: any BlockDevice
  init(_ device: any BlockDevice) { self.device = device }
  var name: String { device.name }
  var size: ByteCount { device.size }
  var blockSize: Int { device.blockSize }
  var isWritable: Bool { false }
  func read(at offset: ByteOffset, into destination: consuming MutableSpan<UInt8>) throws(BlockError) {
    try device.read(at: offset, into: destination)
  }
  func write(_ source: Span<UInt8>, at offset: ByteOffset) throws(BlockError) {
    throw BlockError(.readOnly, device: name, "is opened for reading only")
  }
  func sync() throws(BlockError) { throw BlockError(.readOnly, device: name, "is opened for reading only") }
}
