import ArgumentParser

/// `vnvram header`: what opens an image, kept apart from it.
struct HeaderCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "header", abstract: "Save an image's header, and put it back where both copies are damaged.",
    discussion: """
      EXAMPLE
        vnvram header backup web-1.img web-1.header
        vnvram header restore web-1.img web-1.header --force
      """,
    subcommands: [HeaderBackupCommand.self, HeaderRestoreCommand.self])
}
