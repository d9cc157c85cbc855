import CSystem
import Glibc
import Primitives

/// Another program of this package, beside this one, that is given a secret, does one thing, and ends.
///
/// It inherits no descriptors but its standard streams, and what is put into them stays in pipes: nothing touches a
/// disk. It is waited for until it ends; helpers limit their own time.
public enum HelperProgram {
  /// What came of it.
  public struct Outcome: Sendable {
    /// The exit status; minus the signal's number where one ended it.
    public let status: Int32
    public let output: String
    public let errors: String
  }

  /// Of what a helper says, no more is kept.
  private static let limit = 4096

  /// The path of a program in this one's own directory.
  ///
  /// - Throws: ENOENT where there is none that may be started.
  public static func path(of name: String) throws(FileError) -> String {
    let own = unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: 4097) { buffer -> String? in
      guard let base = buffer.baseAddress else { return nil }
      let count = unsafe readlink("/proc/self/exe", base, 4096)
      guard count > 0 else { return nil }
      unsafe base[count] = 0
      return unsafe String(cString: base)
    }
    guard let own, let slash = own.lastIndex(of: "/") else { throw FileError(errno: ENOENT, file: name, "finding it") }
    let path = own[...slash] + name
    guard unsafe access(String(path), X_OK) == 0 else {
      throw FileError(
        errno, file: String(path), detail: "is needed and can't be started; install it beside this program")
    }
    return String(path)
  }

  /// Starts it, gives it `input` piece by piece, and waits for its end.
  public static func run(
    _ path: String, _ arguments: [String], input: (_ write: (Span<UInt8>) throws(FileError) -> Void) throws -> Void
  ) throws -> Outcome {
    let (stdin, stdout, stderr) = (try Pipe(path), try Pipe(path), try Pipe(path))
    let child = try spawn(path, arguments, stdin.reading, stdout.writing, stderr.writing)
    stdin.closeReading()
    stdout.closeWriting()
    stderr.closeWriting()
    // A helper that ends early isn't there to read the rest; its status says why.
    let out = OutputFile(descriptor: stdin.writing, name: path)
    var failure: (any Error)?
    do { try input { (bytes) throws(FileError) in try out.write(bytes) } } catch { failure = error }
    stdin.closeWriting()
    let output = text(stdout.reading)
    let errors = text(stderr.reading)
    var status: Int32 = 0
    while unsafe waitpid(child, &status, 0) < 0 {
      guard errno == EINTR else { throw FileError(errno: errno, file: path, "waiting for it") }
    }
    let signal = status & 0x7F
    let outcome = Outcome(status: signal == 0 ? status >> 8 & 0xFF : -signal, output: output, errors: errors)
    if outcome.status == 0, let failure { throw failure }
    return outcome
  }

  /// Both ends of a pipe, none of which is inherited by itself.
  private final class Pipe {
    private(set) var reading: Int32 = -1
    private(set) var writing: Int32 = -1

    init(_ name: String) throws(FileError) {
      var ends: [Int32] = [-1, -1]
      guard unsafe csystem_pipe(&ends) == 0 else { throw FileError(errno: errno, file: name, "making a pipe to it") }
      (reading, writing) = (ends[0], ends[1])
    }

    deinit {
      closeReading()
      closeWriting()
    }

    func closeReading() {
      if reading >= 0 { close(reading) }
      reading = -1
    }

    func closeWriting() {
      if writing >= 0 { close(writing) }
      writing = -1
    }
  }

  private static func spawn(
    _ path: String, _ arguments: [String], _ input: Int32, _ output: Int32, _ errors: Int32
  ) throws(FileError) -> pid_t {
    var actions = unsafe posix_spawn_file_actions_t()
    unsafe posix_spawn_file_actions_init(&actions)
    defer { unsafe posix_spawn_file_actions_destroy(&actions) }
    unsafe posix_spawn_file_actions_adddup2(&actions, input, 0)
    unsafe posix_spawn_file_actions_adddup2(&actions, output, 1)
    unsafe posix_spawn_file_actions_adddup2(&actions, errors, 2)
    // What this program was started with, keys among it, is none of a helper's business.
    unsafe csystem_spawn_close_from(&actions, 3)
    let strings = unsafe ([path] + arguments).map { unsafe strdup($0) } + [nil]
    defer { unsafe strings.forEach { unsafe free($0) } }
    var child = pid_t()
    let code = unsafe posix_spawn(&child, path, &actions, nil, strings, environ)
    guard code == 0 else { throw FileError(errno: code, file: path, "starting it") }
    return child
  }

  /// What there is to read, up to its end.
  private static func text(_ descriptor: Int32) -> String {
    let input = InputFile(descriptor: descriptor, name: "helper")
    var bytes = [UInt8](repeating: 0, count: limit)
    guard let count = try? input.read(into: bytes.mutableSpan) else { return "" }
    // To its end, lest it wait for somebody to read the rest.
    var rest = [UInt8](repeating: 0, count: limit)
    while let more = try? input.read(into: rest.mutableSpan), more > 0 {}
    return String(decoding: bytes.prefix(count), as: UTF8.self)
  }
}
