import ArgumentParser

/// `vnvram`: what it is, and its subcommands.
struct VNVRAMCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "vnvram",
    abstract: "Keep a virtual machine's NVRAM in an encrypted image.",
    discussion: """
      EXAMPLE
        vnvram key generate web-1
        vnvram format web-1.img --key web-1 --profile tpm2
        vnvram ls web-1.img

      EXIT STATUS
         0 done                      8 not a vnvram image, or a version not known
         1 failed otherwise          9 in use by another process
         2 wrong usage              10 no space, too small, over a limit
         3 a key is missing         11 input/output error
         4 wrong key                12 the audit record could not be written
         5 key expired, revoked     13 timed out
           or not permitted         14 no such entry, slot or key
         6 not authentic            15 refused by policy
         7 rolled back
      With --json each command prints one line on standard output: an object with "status", the name of its outcome, \
      and, where it failed, "error" with "code" (the exit status) and "message".
      """,
    version: "vnvram \(Version.text)",
    groupedSubcommands: [
      CommandGroup(
        name: "Images",
        subcommands: [
          SizeCommand.self, FormatCommand.self, InfoCommand.self, StatusCommand.self, CheckCommand.self,
          ScrubCommand.self, ConvertCommand.self, AcceptRollbackCommand.self,
        ]),
      CommandGroup(
        name: "Copies", subcommands: [BackupCommand.self, RestoreCommand.self, SalvageCommand.self, HeaderCommand.self]),
      CommandGroup(
        name: "Entries",
        subcommands: [
          LsCommand.self, GetCommand.self, PutCommand.self, EntryCommand.self, DumpCommand.self, ImportCommand.self,
          ImportStreamCommand.self,
        ]),
      CommandGroup(name: "Changing over", subcommands: [ImportSwtpmCommand.self, ExportSwtpmCommand.self]),
      CommandGroup(name: "Hosts", subcommands: [MarkerCommand.self]),
      CommandGroup(name: "Keys", subcommands: [KeyCommand.self, SlotCommand.self]),
    ])
}

/// The program's version (CHANGELOG.md).
enum Version {
  static let text = "0.1.0"
}
