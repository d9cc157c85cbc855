import ArgumentParser
import Audit
import Keyring
import SecureVolume

/// `vnvram key unlink`: a key is taken out of one keyring.
struct KeyUnlinkCommand: Subcommand {
  static let configuration = CommandConfiguration(
    commandName: "unlink", abstract: "Take a key out of a keyring; it is gone once no keyring has it.",
    discussion: """
      Unlike a revoked key it then counts as missing: a store waits for it.

      EXAMPLE
        vnvram key unlink web-1
      """)

  @Argument(help: "The key's name.")
  var name: KeyNameArgument
  @Option(help: "The keyring; by default the one in which the key is found first.")
  var keyring: KeyringScope?
  @OptionGroup var audit: AuditOptions
  @OptionGroup var output: OutputOptions

  func perform() throws -> Answer {
    let found = try KeyLookup.find(name.name)
    let scope = keyring ?? found.scope
    try audit.log().record(
      AuditRecord(
        .removed, key: name.name.text, kind: SlotKind.keyring.label, serial: found.serial.value,
        detail: "taken out of the \(scope) keyring"))
    do { try Keyring.unlink(found.serial, from: scope) } catch {
      guard error.code == .missing else { throw error }
      throw Failure(.notFound, "key \(name.name): is not in the \(scope) keyring but in the \(found.scope) keyring")
    }
    return Answer(
      text: ["key \(name.name): taken out of the \(scope) keyring, serial \(found.serial)"],
      fields: [
        ("key", .string(name.name.text)), ("serial", .integer(Int64(found.serial.value))),
        ("keyring", .string(scope.rawValue)),
      ])
  }
}
