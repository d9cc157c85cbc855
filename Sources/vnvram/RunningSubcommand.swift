import ArgumentParser
import Synchronization

/// Which subcommand this process runs, in the words that one types (`slot add`): the record of key uses has it.
enum RunningSubcommand {
  private static let current = Mutex<String?>(nil)

  static var name: String? { current.withLock { $0 } }

  static func set(_ type: any ParsableCommand.Type) {
    let words = words(of: type, below: VNVRAMCommand.self)?.joined(separator: " ")
    current.withLock { $0 = words }
  }

  private static func words(of type: any ParsableCommand.Type, below group: any ParsableCommand.Type) -> [String]? {
    for command in group.configuration.subcommands {
      guard let name = command.configuration.commandName else { continue }
      if ObjectIdentifier(command) == ObjectIdentifier(type) { return [name] }
      if let rest = words(of: type, below: command) { return [name] + rest }
    }
    return nil
  }
}
