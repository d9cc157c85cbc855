import Glibc
import Primitives
import ProgramIO
import SwtpmFormat
import VTPM

/// `--log`: where messages go. All of them are written at every level: there is one kind only. From level 5 on swtpm
/// adds libtpms' own messages, which show whole commands with their passwords; here they are never written.
struct LogOptions {
  private enum Place {
    case standardError
    case file(String)
    case descriptor(Int32)
    case nowhere
  }

  private var place = Place.standardError
  private var prefix = Log.standardPrefix
  private var truncates = false
  private var level: UInt32 = 1

  init() {}

  /// Parses `file=FILE|fd=N[,level=N][,prefix=PREFIX][,truncate]`; `file=-` is for no messages at all.
  init(parsing text: String) throws(TPMError) {
    var list = try KeyValueList<TPMError>(text, option: OptionName.log.rawValue)
    let file = try list.value("file")
    let descriptor = try list.number("fd", UInt32(0)...UInt32(Int32.max))
    guard file == nil || descriptor == nil else { throw .usage("--log: say file= or fd=, not both") }
    if let file {
      guard !file.isEmpty, !file.utf8.contains(0) else { throw .usage("--log: the file's path is empty") }
      place = file == "-" ? .nowhere : .file(file)
    }
    // Standard error has its own way: a daemon keeps it until it serves.
    if let descriptor, descriptor != 2 { place = .descriptor(Int32(descriptor)) }
    level = try list.number("level", 0...UInt32.max) ?? 1
    if let prefix = try list.value("prefix") { self.prefix = prefix }
    truncates = try list.flag("truncate")
    try list.finish()
  }

  /// Whether standard error has no more lines once the server serves.
  var isElsewhere: Bool {
    if case .standardError = place { false } else { true }
  }

  /// Opens it. Until the server serves, standard error has each line, too. A file is appended to, and made for its
  /// owner alone where there is none.
  ///
  /// - Parameter standardError: where that is.
  func open(standardError: Int32) throws -> Log {
    let log = Log(descriptor: try destination(), prefix: prefix, beside: standardError)
    if level >= 5 {
      log.line("--log level=\(level): libtpms' own messages would show passwords, and are not written")
    }
    return log
  }

  private func destination() throws -> Int32 {
    switch place {
    case .standardError, .nowhere: return -1
    case .file(let path):
      let flags = O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK | (truncates ? O_TRUNC : 0)
      var descriptor = unsafe Glibc.open(path, flags | O_WRONLY, 0o600)
      // A FIFO without a reader: it keeps what fits into it until there is one.
      if descriptor < 0, errno == ENXIO { descriptor = unsafe Glibc.open(path, flags | O_RDWR, 0o600) }
      guard descriptor >= 0 else { throw FileError(errno: errno, file: path, "opening the log") }
      return descriptor
    case .descriptor(let number):
      let flags = fcntl(number, F_GETFL)
      guard flags >= 0, flags & O_ACCMODE != O_RDONLY else {
        throw TPMError.usage("--log: descriptor \(number) is not open for writing")
      }
      if number > 2 { _ = fcntl(number, F_SETFD, FD_CLOEXEC) }
      if truncates { _ = ftruncate(number, 0) }
      // A daemon's standard output leads nowhere.
      guard number > 2 else { return fcntl(number, F_DUPFD_CLOEXEC, 3) }
      return number
    }
  }
}
