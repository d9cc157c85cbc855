import ArgumentParser
import Audit
import Crypto
import Keyring
import Primitives
import ProgramIO
import SecureVolume

/// `vnvram slot add`: another key, a recovery key or a passphrase opens an image, too.
struct SlotAddCommand: Subcommand {
  static let configuration = CommandConfiguration(
    commandName: "add", abstract: "Let another key, a recovery key or a passphrase open an image.",
    discussion: """
      The image is opened with the keys of the keyring, or as one of the --open options says.

      EXAMPLE
        vnvram slot add web-1.img --key web-1-spare
        vnvram slot add web-1.img --recovery-key --name safe
        vnvram slot add web-1.img --passphrase --name office
      """)

  @Argument(help: "The image.", completion: .file())
  var image: String
  @Option(help: "A kernel key that is to open it.")
  var key: KeyNameArgument?
  @Flag(help: "Make a recovery key and show it, once, on the terminal.")
  var recoveryKey = false
  @Option(help: ArgumentHelp("Make a recovery key and write it to this descriptor.", valueName: "n"))
  var recoveryKeyFd: Int32?
  @Flag(help: "Ask for a passphrase at the terminal.")
  var passphrase = false
  @Option(help: ArgumentHelp("Take a passphrase from this descriptor, up to a newline.", valueName: "n"))
  var passphraseFd: Int32?
  @Option(help: "The slot's name; for a key always the key's.")
  var name: String?
  @OptionGroup var opening: AuthorisationOptions
  @OptionGroup var output: OutputOptions

  private var isRecovery: Bool { recoveryKey || recoveryKeyFd != nil }
  private var isPassphrase: Bool { passphrase || passphraseFd != nil }
  private var slotName: String {
    key?.name.text ?? name ?? (isRecovery ? SlotKind.recovery.label : SlotKind.passphrase.label)
  }

  func validate() throws {
    try DescriptorArgument.check(
      recoveryKeyFd, passphraseFd, opening.openRecoveryKeyFd, opening.openPassphraseFd)
    guard [key != nil, isRecovery, isPassphrase].count(where: { $0 }) == 1 else {
      throw ValidationError("Say what is to open it: one of --key NAME, --recovery-key and --passphrase.")
    }
    if key != nil, name != nil {
      throw ValidationError("The slot of a kernel key has the key's name: leave out --name.")
    }
    guard KeySlot.isValid(name: slotName) else {
      throw ValidationError(
        "A slot's name has 1 to \(KeySlot.maximumNameLength) bytes and no control characters.")
    }
  }

  func perform() throws -> Answer {
    let audit = try opening.audit.log()
    let new = try newKey(audit)
    let (slot, warnings) = try opening.options.change(image) { opened in
      try check(opened.encrypted(for: "open with a key"))
    } _: { opened, _ in
      try add(new, to: opened, audit)
    }
    return Answer(
      text: ["\(image): slot \(slot.index), \(slot.kind.label) \(Text.quoted(slot.name)), was added"],
      fields: [("image", .string(image)), ("slot", slot.json)], warnings: warnings)
  }

  /// What is to be added.
  private struct New: ~Copyable {
    var key: KeyEncryptionKey
    var cost: ScryptCost?
    var recovery: NewRecoveryKey?
  }

  private func newKey(_ audit: AuditLog) throws -> New {
    if let key { return New(key: try NewKey.kernel(key.name, for: image, audit: audit)) }
    if isPassphrase {
      let secret = try Passphrase.readNew(descriptor: passphraseFd)
      return New(key: KeyEncryptionKey(.passphrase, secret), cost: .default)
    }
    let recovery = try NewRecoveryKey(descriptor: recoveryKeyFd, json: output.json)
    return New(key: recovery.key(), recovery: consume recovery)
  }

  private func check(_ volume: SecureVolume) throws {
    if volume.slots.contains(where: { $0.name == slotName }) {
      throw Failure(
        .refused,
        "\(image): has a slot \(Text.quoted(slotName)) already; remove it first, or give the new one another name")
    }
    if volume.slots.count >= SecureVolume.maximumSlots {
      throw Failure(.noSpace, "\(image): all \(SecureVolume.maximumSlots) slots are in use; remove one first")
    }
  }

  private func add(_ new: borrowing New, to opened: OpenedImage, _ audit: AuditLog) throws -> SlotDescription {
    let volume = try opened.encrypted(for: "open with a key")
    let kind = new.key.kind
    let record = AuditRecord(
      kind == .recovery ? .exported : .added, store: image, uuid: volume.uuid, key: slotName, kind: kind.label,
      access: .write)
    try audit.record(record)
    switch new.recovery {
    case .some(let recovery): try recovery.write()
    case .none: break
    }
    do throws(VolumeError) {
      try volume.addSlot(new.key, name: slotName, cost: new.cost, created: WallClock.seconds)
    } catch {
      try opened.goOn(after: error)
    }
    guard let slot = volume.slots.first(where: { $0.name == slotName }) else {
      throw Failure(.failed, "\(image): the new slot is not there")
    }
    return slot
  }
}

/// What opens the image that is to get another slot. The names of `KeyOptions` are taken by the new slot's.
struct AuthorisationOptions: ParsableArguments {
  @Option(help: ArgumentHelp("Open the image with the recovery key that this descriptor gives.", valueName: "n"))
  var openRecoveryKeyFd: Int32?
  @Flag(help: "Open the image with a passphrase, which is asked for at the terminal.")
  var openPassphrase = false
  @Option(help: ArgumentHelp("Open the image with the passphrase that this descriptor gives.", valueName: "n"))
  var openPassphraseFd: Int32?
  @Flag(help: "Don't ask /sbin/request-key for a key that is in no keyring.")
  var noUpcall = false
  @OptionGroup var anchor: AnchorOptions
  @OptionGroup var audit: AuditOptions

  var options: OpenOptions {
    var options = OpenOptions()
    options.key = KeyOptions()
    options.key.recoveryKeyFd = openRecoveryKeyFd
    options.key.passphrase = openPassphrase
    options.key.passphraseFd = openPassphraseFd
    options.key.slot = nil
    options.key.noUpcall = noUpcall
    options.key.prefix = "--open-"
    options.plaintext = false
    options.anchor = anchor
    options.audit = audit
    return options
  }
}
