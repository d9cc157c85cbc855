// The record of key uses: one JSON object a line (RFC 8259), appended and synced before the key is used.
//
// Invariants: a record is one write(2) of a whole line in append mode, so that lines of several processes don't mix; it
// is on disk when `record` returns; a line that a power cut or a full disk left unfinished is ended before the next one
// begins, so that it spoils no other. The file is opened anew for each record: whoever rotates logs need not tell us.
import Glibc
import Primitives
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
  /// Who we are: the program's file, as the kernel knows it.
  private let program: String
  private let lostRecords = Mutex(0)

  public init(_ destination: AuditDestination, policy: Policy = .required) {
    self.destination = destination
    self.policy = policy
    program = Self.programPath()
  }

  /// How many records could not be written.
  public var lost: Int { lostRecords.withLock { $0 } }

  /// Appends `record` with the time and who we are. Durable on return.
  ///
  /// - Throws: under `.required`, where it could not be written or synced: don't use the key.
  public func record(_ record: AuditRecord) throws(AuditError) {
    guard case .file(let path) = destination else { return }
    var members: [(String, JSON)] = [("time", .string(Self.now()))]
    members += record.members
    members.append(("uid", .integer(Int64(getuid()))))
    members.append(("pid", .integer(Int64(getpid()))))
    members.append(("program", .string(program)))
    let line = Array((JSON.object(members).text + "\n").utf8)
    // One at a time, so that looking at the end of the file and writing to it go together.
    let error = lostRecords.withLock { lost -> AuditError? in
      do throws(AuditError) { try Self.append(line, to: path) } catch {
        lost += 1
        return error
      }
      return nil
    }
    if let error, policy == .required { throw error }
  }

  /// Makes the directories above the log where there are none, and tells what records need from then on: the directories
  /// in which the log is, or is made anew when somebody has moved it away; or what is no file, itself.
  public func prepare() -> [(path: String, isFile: Bool)] {
    guard case .file(let path) = destination, !path.isEmpty, !path.utf8.contains(0) else { return [] }
    Self.makeDirectories(above: path)
    var status = stat()
    if unsafe stat(path, &status) == 0, status.st_mode & S_IFMT != S_IFREG { return [(path, true)] }
    var places = [(Self.directory(of: path), false)]
    // The path may be a symbolic link to a file elsewhere.
    if let resolved = unsafe realpath(path, nil) {
      unsafe places.append((Self.directory(of: String(cString: resolved)), false))
      unsafe free(resolved)
    }
    return places
  }

  private static func directory(of path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }

  // MARK: The file

  private static func append(_ line: [UInt8], to path: String) throws(AuditError) {
    let descriptor = try openForAppending(path)
    defer { close(descriptor) }
    var status = stat()
    guard unsafe fstat(descriptor, &status) == 0 else { throw cannotOpen(path) }
    let isFile = status.st_mode & S_IFMT == S_IFREG
    let wasEmpty = status.st_size == 0
    var last: UInt8 = 0x0A
    if isFile, !wasEmpty {
      guard unsafe pread(descriptor, &last, 1, status.st_size - 1) == 1 else { throw cannotOpen(path) }
    }
    try writeAll(last == 0x0A ? line : [0x0A] + line, descriptor, path)
    guard isFile else { return }
    guard fdatasync(descriptor) == 0 else { throw cannotWrite(path, "syncing it") }
    if wasEmpty { try syncDirectory(of: path) }
  }

  /// Reading is needed to see the last byte. Without waiting: a FIFO without a reader is an error, not a stop.
  private static func openForAppending(_ path: String) throws(AuditError) -> Int32 {
    let flags = O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK
    guard !path.isEmpty, !path.utf8.contains(0) else {
      throw AuditError(.cannotOpen(errno: EINVAL), log: "audit log", "its path is empty or not a path")
    }
    var descriptor = unsafe open(path, flags, 0o600)
    if descriptor < 0, errno == ENOENT {
      makeDirectories(above: path)
      descriptor = unsafe open(path, flags, 0o600)
    }
    guard descriptor >= 0 else { throw cannotOpen(path) }
    return descriptor
  }

  private static func writeAll(_ bytes: [UInt8], _ descriptor: Int32, _ path: String) throws(AuditError) {
    var done = 0
    while done < bytes.count {
      let count = unsafe bytes.withUnsafeBytes { buffer in
        unsafe write(descriptor, buffer.baseAddress.map { unsafe $0 + done }, bytes.count - done)
      }
      if count > 0 {
        done += count
      } else if count == 0 || errno != EINTR {
        throw cannotWrite(path, "writing it")
      }
    }
  }

  /// For the owner alone. Failures show when the file is opened.
  private static func makeDirectories(above path: String) {
    var end = path.startIndex
    while let slash = path[end...].dropFirst().firstIndex(of: "/") {
      _ = unsafe mkdir(String(path[..<slash]), 0o700)
      end = slash
    }
  }

  /// A new file's name is durable only when its directory is.
  private static func syncDirectory(of path: String) throws(AuditError) {
    let directory = directory(of: path)
    let descriptor = unsafe open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { return }  // Of a directory that may be searched and not read nothing can be synced.
    defer { close(descriptor) }
    guard fsync(descriptor) == 0 || errno == EINVAL else { throw cannotWrite(path, "syncing its directory") }
  }

  private static func cannotOpen(_ path: String) -> AuditError {
    let code = errno
    return AuditError(
      .cannotOpen(errno: code), log: path,
      "the record of key uses can't be opened (\(AuditError.words(code))), and without it no key is used; "
        + "make the place writable or name another")
  }

  private static func cannotWrite(_ path: String, _ operation: String) -> AuditError {
    let code = errno
    return AuditError(
      .cannotWrite(errno: code), log: path,
      "the record of key uses can't be written (\(operation): \(AuditError.words(code))), and without it no key is "
        + "used; make room or name another place")
  }

  // MARK: Who and when

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

  private static func programPath() -> String {
    unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: 4096) { buffer in
      guard let base = buffer.baseAddress else { return "unknown" }
      let count = unsafe readlink("/proc/self/exe", base, buffer.count)
      guard count > 0 else { return "unknown" }
      let bytes = unsafe buffer.prefix(count).map { UInt8(bitPattern: $0) }
      return String(decoding: bytes, as: UTF8.self)
    }
  }
}
