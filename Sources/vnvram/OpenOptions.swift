import ArgumentParser
import Audit
import BlockIO
import Primitives
import ProgramIO
import SecureVolume

/// What opens an image: kernel keys by the names of its slots, unless one of these says otherwise.
struct OpenOptions: ParsableArguments {
  @Option(help: ArgumentHelp("Open with the recovery key that this descriptor gives.", valueName: "n"))
  var recoveryKeyFd: Int32?

  @Flag(help: "Open with a passphrase, which is asked for at the terminal.")
  var passphrase = false

  @Option(
    help: ArgumentHelp("Open with the passphrase that this descriptor gives: up to a newline.", valueName: "n"))
  var passphraseFd: Int32?

  @Option(help: ArgumentHelp("Try only the slot of this name.", valueName: "name"))
  var slot: String?

  @Flag(
    help: "Take an image that is not encrypted: nothing in it is authentic, and a write that is cut short can spoil it."
  )
  var plaintext = false

  @OptionGroup var anchor: AnchorOptions
  @OptionGroup var audit: AuditOptions

  func validate() throws {
    let ways = [recoveryKeyFd != nil, passphrase, passphraseFd != nil, plaintext].count(where: { $0 })
    if ways > 1 {
      throw ValidationError("Give one of --recovery-key-fd, --passphrase, --passphrase-fd and --plaintext.")
    }
    if slot != nil, recoveryKeyFd == nil, !passphrase, passphraseFd == nil {
      throw ValidationError("--slot goes with --recovery-key-fd, --passphrase or --passphrase-fd.")
    }
    if plaintext, let named = anchor.anchor, named.specification != .none {
      throw ValidationError("--anchor goes without --plaintext: nothing tells whether a plain image is the newest.")
    }
    try DescriptorArgument.check(recoveryKeyFd, passphraseFd)
  }

  /// A plain image has none, whatever the environment says.
  func anchorUse() throws -> AnchorUse? {
    plaintext ? nil : try anchor.make().map { .following($0) }
  }

  /// Opens an image for reading; nothing of it is changed.
  func open(_ image: String) throws -> OpenedImage {
    try OpenedImage(image, .readOnly, unlock: try unlock(), anchor: try anchorUse(), audit: { try audit.log() })
  }

  /// Opens an image for reading, or, where it is refused for what is wrong with it, as far as it verifies.
  ///
  /// - Returns: why it was refused, too; `nil` where it wasn't.
  func openDamaged(_ image: String) throws -> (OpenedImage, refusal: Failure?) {
    let unlock = try unlock()
    let device = try FileDevice.open(path: image, access: .readOnly)
    let anchor = try anchorUse()
    do {
      return (try OpenedImage(device, unlock: unlock, anchor: anchor, audit: { try audit.log() }), nil)
    } catch {
      let failure = Failure(error)
      guard !unlock.isPlain, failure.status == .notAuthentic || failure.status == .inputOutput else { throw error }
      do {
        return (try OpenedImage(device, for: .salvage, unlock: unlock, audit: { try audit.log() }), failure)
      } catch { throw failure }
    }
  }

  /// Changes an image.
  ///
  /// Opening for writing alone changes it (a new epoch begins), so `check` looks first whether all can go well, in the
  /// image opened for reading: what it refuses leaves no trace. It may take its time, too: nobody is locked out by it.
  ///
  /// - Returns: what `change` returns, and what is to be said of how the image was found.
  func change<C, R>(
    _ image: String, check: (OpenedImage) throws -> C, _ change: (OpenedImage, C) throws -> R
  ) throws -> (R, warnings: [String]) {
    let unlock = try unlock()
    let anchor = try anchorUse()
    let reading = try OpenedImage(image, .readOnly, unlock: unlock, anchor: anchor, audit: { try audit.log() })
    let warnings = reading.warnings
    let checked = try check(reading)
    reading.release()
    let opened = try OpenedImage(image, .readWrite, unlock: unlock, anchor: anchor, audit: { try audit.log() })
    let result: R
    do { result = try change(opened, checked) } catch {
      opened.abandon()
      throw error
    }
    try opened.close()
    return (result, warnings)
  }

  /// Reads the secret, if there is one to read, before the image is locked: a person may take a while.
  func unlock() throws -> Unlock {
    if let recoveryKeyFd {
      let key = KeyEncryptionKey(.recovery, try RecoveryKey.read(descriptor: recoveryKeyFd))
      return Unlock(isPlain: false, slot: slot, key: key)
    }
    if passphrase || passphraseFd != nil {
      let secret = try Passphrase.read(descriptor: passphraseFd, prompt: "Passphrase: ")
      return Unlock(isPlain: false, slot: slot, key: KeyEncryptionKey(.passphrase, secret))
    }
    return Unlock(isPlain: plaintext, slot: nil, key: nil)
  }
}

/// How an image is to be opened.
struct Unlock: ~Copyable {
  /// As one that is not encrypted.
  let isPlain: Bool
  /// The only slot to try the key on.
  let slot: String?
  /// `nil`: with the kernel keys that the image's slots name.
  let key: KeyEncryptionKey?
}

/// A passphrase from a descriptor or a person.
enum Passphrase {
  static func read(descriptor: Int32?, prompt: String) throws -> SecretBytes {
    guard let descriptor else { return try Terminal.readPassphrase(prompt) }
    let input = InputFile(descriptor: descriptor, name: "descriptor \(descriptor)")
    let secret = try input.readSecretLine(limit: Terminal.passphraseLimit)
    guard secret.count > 0 else {
      throw Failure(.usage, "descriptor \(descriptor) gives no passphrase: its first line is empty")
    }
    return secret
  }

  /// For a new one: typed twice, since nobody sees what they type.
  static func readNew(descriptor: Int32?) throws -> SecretBytes {
    let secret = try read(descriptor: descriptor, prompt: "New passphrase: ")
    guard descriptor == nil else { return secret }
    let again = try Terminal.readPassphrase("The same again: ")
    guard secret.equals(again) else { throw Failure(.usage, "the two passphrases differ; nothing was changed") }
    return secret
  }
}
