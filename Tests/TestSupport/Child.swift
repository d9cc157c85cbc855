import Foundation
import Synchronization

/// A child process by posix_spawn and waitpid, on the thread whose session keyring it gets. It is collected once,
/// however often one asks, and a signal never goes to a process that was collected.
public final class Child: Sendable {
  public let identifier: pid_t
  /// Where standard output goes.
  public let output: String

  /// What a child ended with.
  public struct Outcome: Equatable, Sendable {
    /// The exit status; minus the signal's number where one ended it.
    public let status: Int32
    public let output: [UInt8]
    /// Empty where both outputs were merged.
    public let errors: [UInt8]

    public var text: String { String(decoding: output, as: UTF8.self) }
    public var errorText: String { String(decoding: errors, as: UTF8.self) }
  }

  /// The processes that it has started itself and that are still there: a server's worker.
  public static func children(of process: pid_t) throws -> [pid_t] {
    try String(contentsOfFile: "/proc/\(process)/task/\(process)/children", encoding: .utf8).split(separator: " ")
      .compactMap { pid_t($0) }
  }

  /// Nil where both outputs are merged.
  private let errors: String?
  /// The status that `wait` gives, once there is one.
  private let ended = Mutex<Int32?>(nil)

  /// Starts a program found on the path, the package's own ones first, in `folder`, with standard input from `input`.
  /// With `merged` both outputs go to the same place, in the order in which they were written.
  public init(
    _ arguments: [String], in folder: String, input: String = "/dev/null", merged: Bool = false,
    output: String? = nil, environment: [String: String] = [:]
  ) throws {
    let name = UUID().uuidString
    let files = (output: output ?? "\(folder)/.out-\(name)", errors: merged ? nil : "\(folder)/.err-\(name)")
    (self.output, errors) = files
    let variables = Self.environment(folder, environment)
    let (error, child) = SessionThread.shared.run {
      Self.spawn(["env", "-C", folder] + arguments, variables, input, files.output, files.errors)
    }
    guard error == 0 else { throw POSIXError(POSIXErrorCode(rawValue: error) ?? .ENOENT) }
    identifier = child
  }

  private static func spawn(
    _ arguments: [String], _ variables: [String], _ input: String, _ output: String, _ errors: String?
  ) -> (error: Int32, child: pid_t) {
    var actions = unsafe posix_spawn_file_actions_t()
    unsafe posix_spawn_file_actions_init(&actions)
    defer { unsafe posix_spawn_file_actions_destroy(&actions) }
    unsafe posix_spawn_file_actions_addopen(&actions, 0, input, O_RDONLY, 0)
    unsafe posix_spawn_file_actions_addopen(&actions, 1, output, O_WRONLY | O_CREAT | O_APPEND, 0o600)
    if let errors {
      unsafe posix_spawn_file_actions_addopen(&actions, 2, errors, O_WRONLY | O_CREAT | O_APPEND, 0o600)
    } else {
      unsafe posix_spawn_file_actions_adddup2(&actions, 1, 2)
    }
    // The test runner's threads block signals, and a child would inherit that and be deaf to SIGTERM.
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
    environment["VNVRAM_MARKERS"] = folder + "/markers"
    // The machine's own has nothing to say here.
    environment["VNVRAM_SWTPM_OPTIONS"] = "none"
    environment["COLUMNS"] = "80"
    environment["LC_ALL"] = "C.UTF-8"
    return environment.merging(more) { $1 }.map { "\($0.key)=\($0.value)" }
  }

  private static func withStrings(_ strings: [String], _ body: ([UnsafeMutablePointer<CChar>?]) -> Int32) -> Int32 {
    let pointers = unsafe strings.map { unsafe strdup($0) }
    defer { unsafe pointers.forEach { unsafe free($0) } }
    return unsafe body(pointers + [nil])
  }

  // MARK: Its end

  /// Collects the child where it has ended; the status then.
  private func collect(_ options: Int32 = WNOHANG) -> Int32? {
    ended.withLock { ended in
      if let ended { return ended }
      var status: Int32 = 0
      var got: pid_t = 0
      repeat { got = unsafe waitpid(identifier, &status, options) } while got < 0 && errno == EINTR
      guard got == identifier else { return nil }
      let signal = status & 0x7F
      ended = signal == 0 ? status >> 8 & 0xFF : -signal
      return ended
    }
  }

  public var isRunning: Bool { collect() == nil }

  public func signal(_ number: Int32) {
    ended.withLock { ended in
      if ended == nil { _ = Foundation.kill(identifier, number) }
    }
  }

  public func kill() { signal(SIGKILL) }

  /// Kills it, and waits for it and for those that it has started itself, if the kernel ends them with it: until a
  /// server's worker is gone it may be writing, and has the image. What `wait` gives.
  public func killWithChildren() -> Int32 {
    let children = (try? Self.children(of: identifier)) ?? []
    kill()
    let status = wait()
    for child in children {
      for _ in 0..<5000 where Self.isThere(child) { usleep(1000) }
    }
    return status
  }

  private static func isThere(_ process: pid_t) -> Bool {
    guard let status = try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8) else { return false }
    return !status.contains(") Z ")
  }

  /// The exit status; minus the signal's number where one ended it, ours after two minutes among them.
  public func wait() -> Int32 {
    for _ in 0..<120_000 {
      if let status = collect() { return status }
      usleep(1000)
    }
    kill()
    return collect(0) ?? -SIGKILL
  }

  /// Waits for the end, and takes what it wrote; to be called once.
  public func outcome() throws -> Outcome {
    let status = wait()
    let files = [output] + (errors.map { [$0] } ?? [])
    defer { for file in files { try? FileManager.default.removeItem(atPath: file) } }
    return Outcome(status: status, output: try File.bytes(output), errors: try errors.map(File.bytes) ?? [])
  }

  /// What it wrote to standard output up to now.
  public var text: String { String(decoding: FileManager.default.contents(atPath: output) ?? Data(), as: UTF8.self) }
}
