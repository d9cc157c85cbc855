// The record of key uses: one JSON object a line (RFC 8259), appended and synced before the key is used.
import Glibc
import Primitives
import ProgramIO
import Synchronization

/// Writes records of key uses. One for a process; any thread may use it.
public final class AuditLog: Sendable {
  /// What to do where a record can't be written.
  public enum Policy: Sendable {
    /// The error goes up, and the key isn't used.
    case required
    /// The key is used all the same. Records that were lost are counted.
    case bestEffort
  }

  public let destination: AuditDestination
  public let policy: Policy
  private let origin: AuditOrigin
  /// Where the program was when this was made: it may go to another folder (`--daemon`), and paths still mean the same.
  private let folder: String?
  /// Nil for none.
  private let file: AuditFile?
  private let lostRecords = Mutex(0)

  /// - Parameter subcommand: what of the program runs, for every record.
  public init(_ destination: AuditDestination, policy: Policy = .required, subcommand: String? = nil) {
    self.destination = destination
    self.policy = policy
    origin = AuditOrigin(subcommand: subcommand)
    folder = Path.workingFolder
    file =
      switch destination {
      case .file(let path): AuditFile(path: Path.absolute(path, in: folder), name: path)
      case .none: nil
      }
  }

  /// How many records could not be written.
  public var lost: Int { lostRecords.withLock { $0 } }

  /// Appends `record` with the time and who we are. Its store is named from the root. Durable on return.
  ///
  /// - Throws: under `.required`, where it could not be written or synced: don't use the key.
  public func record(_ record: AuditRecord) throws(AuditError) { try self.record([record]) }

  /// As `record`, several at once, in one write.
  public func record(_ records: [AuditRecord]) throws(AuditError) {
    guard let file, !records.isEmpty else { return }
    let lines = Array(records.map(line).joined().utf8)
    // One at a time, so that looking at the end of the file and writing to it go together.
    let error = lostRecords.withLock { lost -> AuditError? in
      do throws(AuditError) { try file.append(lines) } catch {
        lost += records.count
        return error
      }
      return nil
    }
    if let error, policy == .required { throw error }
  }

  private func line(_ record: AuditRecord) -> String {
    var record = record
    record.store = record.store.map { Path.absolute($0, in: folder) }
    return JSON.object([("time", .string(Self.now()))] + record.members + origin.members).text + "\n"
  }

  /// Makes the folder that `AuditDestination.standard(for:)` says for this user, where the log is there: to be called
  /// as root, before going on as that user.
  public func makeStandardFolder(for name: String, _ user: uid_t, _ group: gid_t) {
    guard let file, file.path == AuditDestination.systemFile(for: name) else { return }
    file.makeFolder(for: user, group)
  }

  /// Makes the folders above the log where there are none, and tells which one records need from then on: that in which
  /// the log is, or is made anew when somebody has moved it away. Nil for none.
  public func prepare() -> String? {
    guard let file, !file.path.isEmpty, !file.path.utf8.contains(0) else { return nil }
    file.makeFolders()
    return file.folder
  }

  // MARK: When

  /// RFC 3339 in UTC, with milliseconds.
  private static func now() -> String {
    var time = timespec()
    unsafe clock_gettime(CLOCK_REALTIME, &time)
    var parts = unsafe tm()
    unsafe gmtime_r(&time.tv_sec, &parts)
    let fields = unsafe [
      parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec,
    ]
    let (year, rest) = (padded(Int(fields[0]), 4), fields.dropFirst().map { padded(Int($0), 2) })
    let milliseconds = padded(time.tv_nsec / 1_000_000, 3)
    return "\(year)-\(rest[0])-\(rest[1])T\(rest[2]):\(rest[3]):\(rest[4]).\(milliseconds)Z"
  }

  private static func padded(_ value: Int, _ count: Int) -> String {
    let text = String(value)
    return String(repeating: "0", count: max(0, count - text.utf8.count)) + text
  }
}
