import ArgumentParser
import Primitives
import SecureVolume

/// With which key an encrypted image is opened: kernel keys by the names of its slots, unless one of these says
/// otherwise.
struct KeyOptions: ParsableArguments {
  @Option(help: ArgumentHelp("Open with the recovery key that this descriptor gives.", valueName: "n"))
  var recoveryKeyFd: Int32?

  @Flag(help: "Open with a passphrase, which is asked for at the terminal.")
  var passphrase = false

  @Option(
    help: ArgumentHelp("Open with the passphrase that this descriptor gives: up to a newline.", valueName: "n"))
  var passphraseFd: Int32?

  @Option(help: ArgumentHelp("Try only the slot of this name.", valueName: "name"))
  var slot: String?

  @Flag(help: "Don't ask /sbin/request-key for a key that is in no keyring.")
  var noUpcall = false

  /// What the names of these options begin with in the command at hand.
  var prefix = "--"

  /// How many of the ways to open an image were given.
  var ways: Int { [recoveryKeyFd != nil, passphrase, passphraseFd != nil].count(where: { $0 }) }

  func validate() throws {
    guard ways <= 1 else { throw ValidationError("Give one of --recovery-key-fd, --passphrase and --passphrase-fd.") }
    if slot != nil, ways == 0 {
      throw ValidationError("--slot goes with --recovery-key-fd, --passphrase or --passphrase-fd.")
    }
    try DescriptorArgument.check(recoveryKeyFd, passphraseFd)
  }

  /// Reads the secret, if there is one to read, before the image is locked: a person may take a while.
  func unlock() throws -> Unlock {
    if let recoveryKeyFd {
      let key = KeyEncryptionKey(.recovery, try RecoveryKeyInput.read(descriptor: recoveryKeyFd))
      return Unlock(isPlain: false, slot: slot, key: key)
    }
    if passphrase || passphraseFd != nil {
      let secret = try Passphrase.read(descriptor: passphraseFd, prompt: "Passphrase: ")
      return Unlock(isPlain: false, slot: slot, key: KeyEncryptionKey(.passphrase, secret))
    }
    return Unlock(isPlain: false, slot: nil, key: nil, asksForKeys: !noUpcall, prefix: prefix)
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
  /// Whether those that are in no keyring are asked for.
  var asksForKeys = false
  /// What the options that give another key begin with.
  var prefix = "--"

  /// Of an image that has no slot for a kernel key: which others it has, and how their keys are given.
  func noKernelKey(_ image: String, _ slots: [SlotDescription]) -> Failure {
    func way(_ kind: SlotKind, _ words: String, _ options: String) -> String? {
      let names = slots.filter { $0.kind == kind }.map { Text.quoted($0.name) }
      return names.isEmpty ? nil : "\(words) \(names.joined(separator: " or ")) with \(options)"
    }
    let ways = [
      way(.recovery, "the recovery key of slot", "\(prefix)recovery-key-fd"),
      way(.passphrase, "the passphrase of slot", "\(prefix)passphrase or \(prefix)passphrase-fd"),
    ].compactMap { $0 }
    return Failure(.keyMissing, "\(image): opens with no kernel key; give \(ways.joined(separator: ", or "))")
  }
}
