import Foundation
import Testing

/// A child process by posix_spawn and waitpid, on the thread whose session keyring it gets.
final class Child: Sendable {
  let identifier: pid_t
  /// Where both outputs go, one after the other.
  let output: String

  /// Starts a program found on the path, the package's own ones first, in `folder`.
  init(_ arguments: [String], in folder: String, output: String, environment: [String: String] = [:]) throws {
    self.output = output
    let variables = Self.environment(folder, environment)
    let (error, child) = SessionThread.shared.run {
      Self.spawn(["env", "-C", folder] + arguments, variables, output)
    }
    guard error == 0 else { throw POSIXError(POSIXErrorCode(rawValue: error) ?? .ENOENT) }
    identifier = child
  }

  private static func spawn(
    _ arguments: [String], _ variables: [String], _ output: String
  ) -> (error: Int32, child: pid_t) {
    var actions = unsafe posix_spawn_file_actions_t()
    unsafe posix_spawn_file_actions_init(&actions)
    defer { unsafe posix_spawn_file_actions_destroy(&actions) }
    unsafe posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
    unsafe posix_spawn_file_actions_addopen(&actions, 1, output, O_WRONLY | O_CREAT | O_APPEND, 0o600)
    unsafe posix_spawn_file_actions_adddup2(&actions, 1, 2)
    // The test runner's threads block signals, and tools would inherit that.
    var attributes = posix_spawnattr_t()
    unsafe posix_spawnattr_init(&attributes)
    defer { unsafe posix_spawnattr_destroy(&attributes) }
    var none = sigset_t()
    unsafe sigemptyset(&none)
    unsafe posix_spawnattr_setsigmask(&attributes, &none)
    unsafe posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
    var child = pid_t()
    let error = unsafe withStrings(arguments) { arguments in
      unsafe withStrings(variables) { variables in
        unsafe posix_spawnp(&child, "env", &actions, &attributes, arguments, variables)
      }
    }
    return (error, child)
  }

  private static func environment(_ folder: String, _ more: [String: String]) -> [String] {
    var environment = ProcessInfo.processInfo.environment
    environment["PATH"] = Program.directory + ":" + (environment["PATH"] ?? "/usr/bin:/bin")
    environment["VNVRAM_AUDIT_LOG"] = folder + "/audit.jsonl"
    environment["LC_ALL"] = "C.UTF-8"
    return environment.merging(more) { $1 }.map { "\($0.key)=\($0.value)" }
  }

  private static func withStrings(_ strings: [String], _ body: ([UnsafeMutablePointer<CChar>?]) -> Int32) -> Int32 {
    let pointers = unsafe strings.map { unsafe strdup($0) }
    defer { unsafe pointers.forEach { unsafe free($0) } }
    return unsafe body(pointers + [nil])
  }

  /// Without collecting it, so that `wait` still can.
  var isRunning: Bool {
    var information = unsafe siginfo_t()
    let result = unsafe waitid(P_PID, id_t(identifier), &information, WEXITED | WNOHANG | WNOWAIT)
    return unsafe result == 0 && information.si_signo == 0
  }

  /// To be called before `wait` only.
  func signal(_ number: Int32) { kill(identifier, number) }

  /// The exit status; minus the signal's number where one ended it, ours after a minute among them. To be called once.
  func wait() -> Int32 {
    for _ in 0..<30_000 where isRunning { usleep(2000) }
    if isRunning { signal(SIGKILL) }
    var status: Int32 = 0
    while unsafe waitpid(identifier, &status, 0) < 0, errno == EINTR {}
    let signal = status & 0x7F
    return signal == 0 ? status >> 8 & 0xFF : -signal
  }

  var text: String { String(decoding: FileManager.default.contents(atPath: output) ?? Data(), as: UTF8.self) }
}

/// The programs under test: SwiftPM puts them beside the tests' own executable.
enum Program {
  static let directory: String = {
    let own = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? CommandLine.arguments[0]
    var directory = URL(fileURLWithPath: own).deletingLastPathComponent()
    // Some runners load the tests from elsewhere; the package's own build directory is the other place.
    if !FileManager.default.isExecutableFile(atPath: directory.path + "/vnvram-swtpm") {
      directory =
        URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .appendingPathComponent("../../.build/debug").standardized
    }
    return directory.path
  }()
}
