import ArgumentParser
import Keyring
import Primitives

/// `vnvram key list`: what is in the keyrings, without its content.
struct KeyListCommand: Subcommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "List the keys that this process can see.",
    discussion: """
      EXAMPLE
        vnvram key list --json
      """)

  @OptionGroup var output: OutputOptions

  func perform() throws -> Answer {
    try Keyring.requireAccess()
    let keys = Keyring.list()
    var answer = Answer()
    var rows = [["NAME", "STATE", "KEYRING", "SERIAL", "EXPIRES", "PERMISSIONS"]]
    for key in keys {
      rows.append([
        key.name.text, key.state.rawValue, key.scope.rawValue, key.serial.description,
        key.timeLeft.map { "in \($0)" } ?? "-", key.permissions.description,
      ])
      if key.isTooWide {
        answer.warnings.append(KeyWarning.tooWide(key.name, key.serial, key.permissions))
      }
    }
    if !keys.isEmpty { answer.text = Text.table(rows) }
    answer.fields = [("keys", .array(keys.map(Self.json)))]
    return answer
  }

  private static func json(_ key: ListedKey) -> JSON {
    .object([
      ("name", .string(key.name.text)), ("state", .string(key.state.rawValue)),
      ("keyring", .string(key.scope.rawValue)),
      ("serial", .integer(Int64(key.serial.value))), ("size", key.size.map { .integer(Int64($0)) } ?? .null),
      ("expires_in", key.timeLeft.map { .string($0) } ?? .null), ("permissions", .string(key.permissions.description)),
      ("too_wide", .bool(key.isTooWide)),
    ])
  }
}
