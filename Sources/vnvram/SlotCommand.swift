import ArgumentParser

/// `vnvram slot`: what opens an image.
struct SlotCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "slot", abstract: "List, add and remove what opens an image: keys, recovery keys, passphrases.",
    subcommands: [SlotListCommand.self, SlotAddCommand.self, SlotRemoveCommand.self])
}
