import ArgumentParser

/// `vnvram header`: what opens an image, kept apart from it.
struct HeaderCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "header", abstract: "Save an image's header, and put it back where both copies are damaged.",
    subcommands: [HeaderBackupCommand.self, HeaderRestoreCommand.self])
}
