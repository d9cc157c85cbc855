import ArgumentParser
import Audit
import Keyring
import SecureVolume

/// `vnvram key revoke`: a key is made unusable for everyone.
struct KeyRevokeCommand: Subcommand {
  static let configuration = CommandConfiguration(
    commandName: "revoke", abstract: "Make a key unusable for good, in every keyring that has it.",
    discussion: """
      Stores that this key keeps open are locked. A key of the same name can be added anew.

      EXAMPLE
        vnvram key revoke web-1
      """)

  @Argument(help: "The key's name.")
  var name: KeyNameArgument
  @OptionGroup var audit: AuditOptions
  @OptionGroup var output: OutputOptions

  func perform() throws -> Answer {
    let found = try KeyLookup.find(name.name)
    try audit.log().record(
      AuditRecord(
        .removed, key: name.name.text, kind: SlotKind.keyring.label, serial: found.serial.value, detail: "revoked"))
    try Keyring.revoke(found.serial)
    return Answer(
      text: ["key \(name.name): revoked, serial \(found.serial)"],
      fields: [("key", .string(name.name.text)), ("serial", .integer(Int64(found.serial.value)))])
  }
}

/// Looking for a key that a command is to do something to.
enum KeyLookup {
  /// Throws `.notFound` where there is none: no key is missing that something waits for.
  static func find(_ name: KeyName) throws -> FoundKey {
    do { return try Keyring.find(name) } catch {
      guard error.code == .missing else { throw error }
      throw Failure(.notFound, "key \(name): is in none of the keyrings; `vnvram key list` shows what there is")
    }
  }
}
