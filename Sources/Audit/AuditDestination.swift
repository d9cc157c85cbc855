import Glibc

/// Where the record of key uses goes.
public enum AuditDestination: Sendable, Equatable {
  /// A file to which lines are appended. A relative path is relative to where the program was when it made its
  /// `AuditLog`.
  case file(String)
  /// Nowhere. Only ever because someone said so.
  case none

  /// The environment's word for the log's path, for tests and demonstrations.
  public static let variable = "VNVRAM_AUDIT_LOG"

  /// What an option or `VNVRAM_AUDIT_LOG` says: a path, or `none`.
  public init(_ text: String) { self = text == "none" ? .none : .file(text) }

  /// Of root's programs. Others may look into it: what is in it is its owners' alone.
  static let systemFolder = "/var/log/vnvram"

  /// Where root has the record of a server that goes on as this user.
  static func systemFile(for user: String) -> String { "\(systemFolder)/\(user)/audit.jsonl" }

  /// `VNVRAM_AUDIT_LOG`, else `/var/log/vnvram/audit.jsonl` for root, else `vnvram/audit.jsonl` in `$XDG_STATE_HOME` or
  /// `~/.local/state`. The environment is not asked in a set-user-ID program.
  ///
  /// - Parameter user: whom root is going to go on as, and whose the record is to be: `/var/log/vnvram/USER/audit.jsonl`.
  ///
  /// Throws `.noPlace` where a user has no home.
  public static func standard(for user: String? = nil) throws(AuditError) -> AuditDestination {
    if let path = environment(variable) { return AuditDestination(path) }
    if geteuid() == 0 { return .file(user.map(systemFile) ?? "\(systemFolder)/audit.jsonl") }
    // The XDG base directory specification: a relative path is to be ignored.
    if let state = environment("XDG_STATE_HOME"), state.hasPrefix("/") { return .file(state + "/vnvram/audit.jsonl") }
    if let home = environment("HOME"), home.hasPrefix("/") { return .file(home + "/.local/state/vnvram/audit.jsonl") }
    throw AuditError(.noPlace, log: "audit log", "has no place, since HOME is not set; say where it is to be")
  }

  /// `nil` where it isn't set or is empty.
  private static func environment(_ name: String) -> String? {
    guard getuid() == geteuid(), getgid() == getegid(), let value = unsafe getenv(name) else { return nil }
    let text = unsafe String(cString: value)
    return text.isEmpty ? nil : text
  }
}
