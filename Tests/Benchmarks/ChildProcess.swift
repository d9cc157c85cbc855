import Glibc

/// A program that is started here, found on the path where its name has no slash. What it says goes to a log, standard
/// output elsewhere if asked.
final class ChildProcess {
  let identifier: pid_t

  init(_ arguments: [String], log: String, input: Int32? = nil, output: Int32? = nil) {
    var actions = unsafe posix_spawn_file_actions_t()
    unsafe posix_spawn_file_actions_init(&actions)
    defer { unsafe posix_spawn_file_actions_destroy(&actions) }
    unsafe posix_spawn_file_actions_addopen(&actions, 1, log, O_WRONLY | O_CREAT | O_APPEND, 0o600)
    unsafe posix_spawn_file_actions_adddup2(&actions, 1, 2)
    if let input { unsafe posix_spawn_file_actions_adddup2(&actions, input, 0) }
    if let output { unsafe posix_spawn_file_actions_adddup2(&actions, output, 1) }
    let strings = unsafe arguments.map { unsafe strdup($0) }
    defer { unsafe strings.forEach { unsafe free($0) } }
    var child = pid_t()
    let error = unsafe posix_spawnp(&child, arguments[0], &actions, nil, strings + [nil], environ)
    guard error == 0 else { fatalError("\(arguments[0]) can't be started: \(error)") }
    identifier = child
  }

  /// Ends it, if it hasn't ended by itself, and waits until it has.
  func end() {
    kill(identifier, SIGTERM)
    _ = wait()
  }

  /// Its exit status; minus the signal that ended it.
  func wait() -> Int32 {
    var status: Int32 = 0
    while unsafe waitpid(identifier, &status, 0) < 0 && errno == EINTR {}
    return status & 0x7F == 0 ? status >> 8 & 0xFF : -(status & 0x7F)
  }

  /// Runs a program to its end, which must be a good one.
  static func run(_ arguments: [String], log: String) {
    let status = ChildProcess(arguments, log: log).wait()
    guard status == 0 else { fatalError("\(arguments.joined(separator: " ")): \(status), see \(log)") }
  }

  /// Runs a program to its end, which must be a good one: how long it took, in nanoseconds, and the most memory that
  /// was resident, in kilobytes, as seen each half millisecond. (What wait4 tells has this process's memory in it.)
  static func measure(_ arguments: [String], log: String) -> (time: UInt64, peak: Int) {
    let start = now()
    let child = ChildProcess(arguments, log: log)
    var (status, peak): (Int32, Int) = (0, 0)
    while unsafe waitpid(child.identifier, &status, WNOHANG) == 0 {
      peak = max(peak, child.kilobytes("status", "VmHWM"))
      usleep(500)
    }
    let time = now() - start
    guard status == 0 else { fatalError("\(arguments.joined(separator: " ")): \(status), see \(log)") }
    return (time, peak)
  }

  /// A process that it has started itself; 0 where there is none.
  var child: pid_t {
    guard let file = unsafe fopen("/proc/\(identifier)/task/\(identifier)/children", "r") else { return 0 }
    defer { unsafe fclose(file) }
    var line = [CChar](repeating: 0, count: 64)
    guard unsafe fgets(&line, 64, file) != nil else { return 0 }
    let text = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    return text.split(separator: " ").first.flatMap { pid_t($0) } ?? 0
  }

  /// Kilobytes, from a line of one of its files in /proc.
  func kilobytes(_ file: String, _ field: String) -> Int { Self.number(identifier, file, field) }

  /// The number in a line of one of a process's files in /proc; 0 where there is none.
  static func number(_ identifier: pid_t, _ file: String, _ field: String) -> Int {
    guard let file = unsafe fopen("/proc/\(identifier)/\(file)", "r") else { return 0 }
    defer { unsafe fclose(file) }
    var line = [CChar](repeating: 0, count: 256)
    while unsafe fgets(&line, 256, file) != nil {
      let text = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
      if text.hasPrefix(field + ":") { return Int(text.filter(\.isNumber)) ?? 0 }
    }
    return 0
  }
}
