import Foundation
import Testing

/// A child process by posix_spawn and waitpid, which block plainly and need no run loop.
final class Child {
  let identifier: pid_t
  private var ended: Int32?

  /// Starts a program found on the path; both outputs are appended to the file `output`.
  init(_ arguments: [String], in directory: String, output: String, environment: [String: String] = [:]) throws {
    var actions = unsafe posix_spawn_file_actions_t()
    unsafe posix_spawn_file_actions_init(&actions)
    defer { unsafe posix_spawn_file_actions_destroy(&actions) }
    unsafe posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
    unsafe posix_spawn_file_actions_addopen(&actions, 1, output, O_WRONLY | O_CREAT | O_APPEND, 0o600)
    unsafe posix_spawn_file_actions_adddup2(&actions, 1, 2)
    // The test runner's threads block signals, and a child would inherit that and be deaf to SIGTERM.
    var attributes = posix_spawnattr_t()
    unsafe posix_spawnattr_init(&attributes)
    defer { unsafe posix_spawnattr_destroy(&attributes) }
    var none = sigset_t()
    unsafe sigemptyset(&none)
    unsafe posix_spawnattr_setsigmask(&attributes, &none)
    unsafe posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
    let variables = ProcessInfo.processInfo.environment.merging(environment) { $1 }.map { "\($0)=\($1)" }
    var child = pid_t()
    let result = unsafe Self.withStrings(["env", "--chdir=\(directory)"] + arguments) { arguments in
      unsafe Self.withStrings(variables) { variables in
        unsafe posix_spawnp(&child, "env", &actions, &attributes, arguments, variables)
      }
    }
    guard result == 0 else { throw POSIXError(POSIXErrorCode(rawValue: result) ?? .ENOENT) }
    identifier = child
  }

  private static func withStrings(
    _ strings: [String], _ body: ([UnsafeMutablePointer<CChar>?]) -> Int32
  ) -> Int32 {
    let pointers = unsafe strings.map { unsafe strdup($0) }
    defer { unsafe pointers.forEach { unsafe free($0) } }
    return unsafe body(pointers + [nil])
  }

  /// Ended children are collected once.
  private func collect(_ options: Int32) {
    var status: Int32 = 0
    while ended == nil {
      let got = unsafe waitpid(identifier, &status, options)
      if got == identifier { ended = status }
      if got == 0 { return }
    }
  }

  var isRunning: Bool {
    collect(WNOHANG)
    return ended == nil
  }

  func signal(_ number: Int32) {
    if isRunning { kill(identifier, number) }
  }

  /// The exit status; nil where a signal ended it, ours among them: nothing here takes a minute.
  func wait() -> Int32? {
    for _ in 0..<30_000 where isRunning { usleep(2000) }
    signal(SIGKILL)
    collect(0)
    let status = ended ?? 0
    return status & 0x7F == 0 ? status >> 8 & 0xFF : nil
  }
}
