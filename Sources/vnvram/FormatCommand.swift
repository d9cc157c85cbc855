import Anchors
import ArgumentParser
import Audit
import BlobStore
import BlockIO
import Glibc
import Primitives
import ProgramIO
import SecureVolume

/// `vnvram format`: a new image. Never over what somebody may still need.
struct FormatCommand: Subcommand {
  static let configuration = CommandConfiguration(
    commandName: "format", abstract: "Make a new image, in a file or on a block device.",
    discussion: """
      The file is made where there is none, as large as its entries need. One that is there is taken if it is empty, or \
      large enough and holds nothing but zeros where the image will be; anything else takes --force, and is lost. With \
      --size the image is larger, which leaves room to add and grow entries.

      The key's bytes are in the kernel alone. With --recovery-key a second key is shown, once, on the terminal, or \
      written to a descriptor, that opens the image when the first is gone.

      EXAMPLE
        vnvram key generate web-1
        vnvram format web-1.img --key web-1 --profile tpm2 --recovery-key
      """)

  @Argument(help: "The image: a file or a block device.", completion: .file())
  var image: String
  @Option(help: "The kernel key that is to open it.")
  var key: KeyNameArgument?
  @OptionGroup var layout: LayoutOptions
  @Option(
    help: ArgumentHelp("The image's size: digits, and K, M or G. By default what its entries need.", valueName: "bytes")
  )
  var size: String?
  @Flag(help: "Show a recovery key on the terminal.")
  var recoveryKey = false
  @Option(help: ArgumentHelp("Write a recovery key to this descriptor.", valueName: "n"))
  var recoveryKeyFd: Int32?
  @Flag(help: "Format without encryption: nothing in the image is secret or authentic.")
  var unencrypted = false
  @Flag(help: "Overwrite what is there.")
  var force = false
  @Flag(help: "Grow a file that is too small.")
  var grow = false
  @OptionGroup var anchor: AnchorOptions
  @OptionGroup var audit: AuditOptions
  @OptionGroup var output: OutputOptions

  private var isRecovery: Bool { recoveryKey || recoveryKeyFd != nil }

  func validate() throws {
    try DescriptorArgument.check(recoveryKeyFd)
    if unencrypted, key != nil || isRecovery {
      throw ValidationError("--unencrypted goes without --key and --recovery-key.")
    }
    if !unencrypted, key == nil { throw ValidationError("Say which key is to open it: --key NAME.") }
  }

  func perform() throws -> Answer {
    let layout = try layout.layout()
    let total = try size.map { text in
      guard let bytes = Size.parse(text) else {
        throw Failure(.usage, "\(Text.quoted(text)) is not a size: digits, and K, M or G if you like")
      }
      return ByteCount(bytes)
    }
    if unencrypted { return try formatPlain(layout, total) }
    guard let key else { throw Failure(.usage, "say which key is to open it: --key NAME") }
    let anchor = try anchor.make()
    if let anchor, anchor is ExpectedGeneration {
      throw Failure(.usage, "\(image): a new image has generation 0; --anchor \(anchor.name) is for opening it")
    }
    let log = try audit.log()
    let kernelKey = try NewKey.kernel(key.name, for: image, audit: log)
    let target = FormatTarget(path: image, force: force, grow: grow)
    let geometry = try geometry(for: layout, total, blockSize: try self.layout.block.blockSize ?? target.blockSize())
    let recovery = isRecovery ? try NewRecoveryKey(descriptor: recoveryKeyFd, json: output.json) : nil
    let device = try target.open(size: geometry.imageSize)
    do {
      return try write(device, layout, geometry, kernelKey, recovery, log, anchor)
    } catch {
      target.remove()
      throw error
    }
  }

  /// The image's geometry: what the entries need, or what `total` has room for.
  private func geometry(for layout: StreamLayout, _ total: ByteCount?, blockSize: Int) throws -> Geometry {
    let least = try self.layout.geometry(for: layout, blockSize: blockSize)
    guard let total else { return least }
    guard total >= least.imageSize,
      let geometry = Geometry(fitting: total, blockSize: blockSize)
    else {
      throw Failure(
        .noSpace,
        "\(image): \(total.value) bytes are too small; with these entries the image needs \(least.imageSize.value) bytes",
        fields: [("needed", .unsigned(least.imageSize.value))])
    }
    guard total <= FormatTarget.largest else {
      throw Failure(.noSpace, "\(image): \(total.value) bytes are more than an image can have")
    }
    return geometry
  }

  private func write(
    _ device: FileDevice, _ layout: StreamLayout, _ geometry: Geometry, _ key: borrowing KeyEncryptionKey,
    _ recovery: consuming NewRecoveryKey?, _ log: AuditLog, _ anchor: (any FreshnessAnchor)?
  ) throws -> Answer {
    let recovery = recovery
    switch recovery {
    case .some(let recovery):
      try log.record(
        AuditRecord(
          .exported, store: image, key: SlotKind.recovery.label, kind: SlotKind.recovery.label, access: .write))
      try recovery.write()
    case .none: break
    }
    let name = self.key?.name.text ?? ""
    try log.record(AuditRecord(.formatted, store: image, key: name, kind: SlotKind.keyring.label, access: .write))
    var progress = ProgressLine("formatting", total: geometry.volumeSize.value, json: output.json)
    let uuid = try VolumeFormatter.format(
      device, geometry: geometry, key: key, name: name, created: WallClock.seconds,
      content: { sector, plaintext in
        layout.fillPlaintext(sector, sectorSize: geometry.blockSize, into: plaintext)
      }, progress: { progress.update($0 * UInt64(geometry.blockSize)) }, anchor: anchor, replacingAnchor: force)
    var slots = ["key \(Text.quoted(name))"]
    switch recovery {
    case .some(let recovery):
      let volume = try SealedVolume(device).unlock(with: key, anchor: anchor)
      try volume.addSlot(recovery.key(), name: SlotKind.recovery.label, created: WallClock.seconds)
      try volume.close()
      slots.append("a recovery key")
    case .none: break
    }
    anchor?.release()
    let entries = try self.layout.specifications()
    return Answer(
      text: [
        "\(image): formatted, \(geometry.imageSize.value) bytes, \(Text.count(entries.count, "entry", "entries")), opened by "
          + slots.joined(separator: " and "), "uuid \(uuid)",
      ] + (anchor.map { ["anchor \(Text.escaped($0.name))"] } ?? []),
      fields: [
        ("image", .string(image)), ("uuid", .string(uuid.description)), ("encrypted", true),
        ("image_size", .unsigned(geometry.imageSize.value)), ("file_size", .unsigned(device.size.value)),
        ("volume_size", .unsigned(geometry.volumeSize.value)), ("stream_size", .unsigned(layout.size.value)),
        ("block_size", .integer(Int64(geometry.blockSize))), ("keys", .array([.string(name)])),
        ("recovery_key", .bool(isRecovery)), ("entries", .integer(Int64(entries.count))),
      ] + (anchor.map { [("anchor", .string($0.name))] } ?? []),
      warnings: device.blockNotices.map { "\(image): \($0)" })
  }

  private func formatPlain(_ layout: StreamLayout, _ total: ByteCount?) throws -> Answer {
    let target = FormatTarget(path: image, force: force, grow: grow)
    if let total, total < layout.size {
      throw Failure(
        .noSpace, "\(image): \(total.value) bytes are too small; these entries need \(layout.size.value) bytes",
        fields: [("needed", .unsigned(layout.size.value))])
    }
    guard let wanted = max(total ?? .zero, layout.size).roundedUp(to: 4096),
      wanted <= FormatTarget.largest
    else { throw Failure(.noSpace, "\(image): that is more than an image can have") }
    let device = try target.open(size: wanted)
    do {
      try BlobStore.initialise(PlainVolume(device), entries: try self.layout.specifications())
    } catch {
      target.remove()
      throw error
    }
    return Answer(
      text: ["\(image): formatted without encryption, \(wanted.value) bytes, \(layout.size.value) of them for entries"],
      fields: [
        ("image", .string(image)), ("encrypted", false), ("file_size", .unsigned(device.size.value)),
        ("stream_size", .unsigned(layout.size.value)),
        ("entries", .integer(Int64(try self.layout.specifications().count))),
      ], warnings: ["\(image): is not encrypted: nothing in it is secret or authentic"])
  }
}
