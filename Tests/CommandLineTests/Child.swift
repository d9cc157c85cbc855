import Foundation
import Testing

/// A child process: posix_spawn and waitpid, on the thread whose session keyring it gets.
final class Child: Sendable {
  let identifier: pid_t

  /// What a child ended with.
  struct Outcome: Equatable, Sendable {
    /// The exit status; minus the signal's number where one ended it.
    let status: Int32
    let output: [UInt8]
    let errors: [UInt8]

    var text: String { String(decoding: output, as: UTF8.self) }
    var errorText: String { String(decoding: errors, as: UTF8.self) }
  }

  private let folder: String
  private let files: (output: String, errors: String)

  /// Starts `arguments` in `folder`, with the program's directory first on the path and standard input from `input`.
  /// With `merged` both outputs go to the same place, in the order in which they were written.
  init(_ arguments: [String], in folder: String, input: String = "/dev/null", merged: Bool = false) throws {
    self.folder = folder
    let name = UUID().uuidString
    let files = (output: "\(folder)/.out-\(name)", errors: "\(folder)/.err-\(name)")
    self.files = files
    let variables = Self.environment(folder)
    let (error, child) = SessionThread.shared.run {
      Self.spawn(["env", "-C", folder] + arguments, variables, input: input, files: files, merged: merged)
    }
    guard error == 0 else { throw POSIXError(POSIXErrorCode(rawValue: error) ?? .ENOENT) }
    identifier = child
  }

  private static func spawn(
    _ arguments: [String], _ variables: [String], input: String, files: (output: String, errors: String), merged: Bool
  ) -> (error: Int32, child: pid_t) {
    var actions = unsafe posix_spawn_file_actions_t()
    unsafe posix_spawn_file_actions_init(&actions)
    defer { unsafe posix_spawn_file_actions_destroy(&actions) }
    unsafe posix_spawn_file_actions_addopen(&actions, 0, input, O_RDONLY, 0)
    unsafe posix_spawn_file_actions_addopen(&actions, 1, files.output, O_WRONLY | O_CREAT | O_APPEND, 0o600)
    unsafe posix_spawn_file_actions_addopen(&actions, 2, files.errors, O_WRONLY | O_CREAT | O_APPEND, 0o600)
    if merged { unsafe posix_spawn_file_actions_adddup2(&actions, 1, 2) }
    var child = pid_t()
    let error = unsafe Self.withStrings(arguments) { arguments in
      unsafe Self.withStrings(variables) { variables in
        unsafe posix_spawnp(&child, "env", &actions, nil, arguments, variables)
      }
    }
    return (error, child)
  }

  private static func environment(_ folder: String) -> [String] {
    var environment = ProcessInfo.processInfo.environment
    environment["PATH"] = Program.directory + ":" + (environment["PATH"] ?? "/usr/bin:/bin")
    environment["VNVRAM_AUDIT_LOG"] = folder + "/audit.jsonl"
    environment["COLUMNS"] = "80"
    environment["LC_ALL"] = "C.UTF-8"
    return environment.map { "\($0.key)=\($0.value)" }
  }

  private static func withStrings(_ strings: [String], _ body: ([UnsafeMutablePointer<CChar>?]) -> Int32) -> Int32 {
    let pointers = unsafe strings.map { unsafe strdup($0) }
    defer { unsafe pointers.forEach { unsafe free($0) } }
    return unsafe body(pointers + [nil])
  }

  func kill() { _ = Foundation.kill(identifier, SIGKILL) }

  /// Waits for the end; to be called once.
  func wait() throws -> Outcome {
    var status: Int32 = 0
    while unsafe waitpid(identifier, &status, 0) < 0, errno == EINTR {}
    let output = try File.bytes(files.output)
    let errors = try File.bytes(files.errors)
    try FileManager.default.removeItem(atPath: files.output)
    try FileManager.default.removeItem(atPath: files.errors)
    let signal = status & 0x7F
    return Outcome(status: signal == 0 ? status >> 8 & 0xFF : -signal, output: output, errors: errors)
  }
}

/// Files of tests, whole.
enum File {
  static func bytes(_ path: String) throws -> [UInt8] { [UInt8](try Data(contentsOf: URL(fileURLWithPath: path))) }
  static func write(_ bytes: [UInt8], to path: String) throws {
    try Data(bytes).write(to: URL(fileURLWithPath: path))
  }
}

/// The program under test: SwiftPM puts it beside the tests' own executable.
enum Program {
  static let directory: String = {
    let own = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? CommandLine.arguments[0]
    var directory = URL(fileURLWithPath: own).deletingLastPathComponent()
    // Some runners load the tests from elsewhere; the package's own build directory is the other place.
    if !FileManager.default.isExecutableFile(atPath: directory.path + "/vnvram") {
      directory =
        URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .appendingPathComponent("../../.build/debug").standardized
    }
    return directory.path
  }()
}
