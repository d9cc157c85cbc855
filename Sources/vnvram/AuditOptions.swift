import ArgumentParser
import Audit

/// Where key uses are recorded.
struct AuditOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Where uses of keys are recorded, or none.",
      discussion: "By default VNVRAM_AUDIT_LOG, /var/log/vnvram/audit.jsonl for root, or vnvram/audit.jsonl in "
        + "XDG_STATE_HOME or ~/.local/state. A key whose use can't be recorded isn't used.", valueName: "file"),
    completion: .file())
  var audit: String?

  func log() throws -> AuditLog {
    let destination = try audit.map { AuditDestination($0) } ?? AuditDestination.standard()
    return AuditLog(destination, subcommand: RunningSubcommand.name)
  }
}
