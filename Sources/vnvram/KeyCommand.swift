import ArgumentParser
import Audit
import Keyring
import Primitives
import SecureVolume

/// `vnvram key`: kernel keys.
struct KeyCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "key", abstract: "Make, load, list, revoke and unlink keys of the kernel's keyrings.",
    discussion: """
      A key NAME is a kernel key of type user with 32 bytes, described as vnvram:NAME. It is looked for in the thread, \
      process, session, user, user-session and persistent keyrings, in this order.
      """,
    subcommands: [
      KeyGenerateCommand.self, KeyLoadCommand.self, KeyListCommand.self, KeyRevokeCommand.self, KeyUnlinkCommand.self,
    ])
}

extension KeyringScope: ExpressibleByArgument {
  /// Those that outlast the command. The thread and process keyrings would end with it.
  public static var allValueStrings: [String] { lasting.map(\.rawValue) }
  static var lasting: [KeyringScope] { [.session, .user, .userSession, .persistent] }

  public init?(argument: String) {
    guard let scope = KeyringScope(rawValue: argument), Self.lasting.contains(scope) else { return nil }
    self = scope
  }
}

/// Where a new key goes, and for how long.
struct NewKeyOptions: ParsableArguments {
  @Option(help: "The keyring that gets it.")
  var keyring = KeyringScope.user

  @Option(help: ArgumentHelp("Seconds until it expires.", valueName: "seconds"))
  var timeout: UInt32?

  @Flag(help: "Replace a key of that name that is there already. What it opened needs another key then.")
  var force = false

  @OptionGroup var audit: AuditOptions

  func validate() throws {
    if timeout == 0 { throw ValidationError("A timeout has at least 1 second; leave it out for none.") }
  }

  /// Adds the key and tells what was added.
  func add(_ name: KeyName, _ secret: borrowing SecretBytes, verb: String) throws -> Answer {
    try audit.log().record(
      AuditRecord(.added, key: name.text, kind: SlotKind.keyring.label, detail: "\(verb), to the \(keyring) keyring"))
    let serial: KeySerial
    do {
      serial = try Keyring.add(name, payload: secret, to: keyring, timeout: timeout ?? 0, replacing: force)
    } catch {
      guard error.code == .exists else { throw error }
      throw Failure(
        .refused,
        "key \(name): is in the \(keyring) keyring already, and may be the only copy of what opens an image; name another "
          + "key, or replace it with --force")
    }
    let expiry = timeout.map { ", for \($0) s" } ?? ""
    return Answer(
      text: ["key \(name): \(verb), \(secret.count) bytes in the \(keyring) keyring, serial \(serial)\(expiry)"],
      fields: [
        ("key", .string(name.text)), ("serial", .integer(Int64(serial.value))), ("keyring", .string(keyring.rawValue)),
        ("timeout", timeout.map { .unsigned(UInt64($0)) } ?? .null),
      ])
  }
}

/// A key's name as an argument.
struct KeyNameArgument: ExpressibleByArgument {
  let name: KeyName

  init?(argument: String) {
    guard let name = KeyName(argument) else { return nil }
    self.name = name
  }

  static let help =
    "1 to \(KeyName.maximumCount) bytes, without blanks, control characters, colons and slashes, and not beginning with "
    + "a dot or a hyphen."
}
