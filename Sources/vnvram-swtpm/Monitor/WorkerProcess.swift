import CSystem
import Glibc
import Primitives
import VTPM

/// The worker, as the process that started it sees it: a new execution of this program, which has nothing of this one but standard
/// error and its ends of the two channels.
final class WorkerProcess {
  /// What it asks, and is answered.
  let requests: Link
  /// What it is told.
  let telling: Link
  let pid: pid_t
  private var end: End?

  /// How it ended.
  enum End {
    case exited(Status)
    case signal(Int32)
  }

  /// Starts it. It waits for its configuration.
  ///
  /// - Parameter image: for who looks at the list of processes.
  init(image: String) throws(LinkError) {
    let (requests, itsRequests) = try Link.pair()
    let (telling, itsTelling) = try Link.pair()
    defer {
      close(itsRequests)
      close(itsTelling)
    }
    pid = try Self.spawn([Worker.name, image], itsRequests, itsTelling)
    (self.requests, self.telling) = (requests, telling)
  }

  deinit { stop() }

  private static func spawn(
    _ arguments: [String], _ requests: Int32, _ telling: Int32
  ) throws(LinkError) -> pid_t {
    // Above the numbers that they are to have: what already has its number would be closed at exec.
    let sources = [requests, telling].map { fcntl($0, F_DUPFD_CLOEXEC, 16) }
    defer { for source in sources where source >= 0 { close(source) } }
    guard sources.allSatisfy({ $0 >= 0 }) else { throw LinkError(errno: errno, "duplicating a descriptor") }
    var actions = unsafe posix_spawn_file_actions_t()
    unsafe posix_spawn_file_actions_init(&actions)
    defer { unsafe posix_spawn_file_actions_destroy(&actions) }
    unsafe posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDWR, 0)
    unsafe posix_spawn_file_actions_adddup2(&actions, 0, 1)
    unsafe posix_spawn_file_actions_adddup2(&actions, sources[0], MonitorClient.requestsDescriptor)
    unsafe posix_spawn_file_actions_adddup2(&actions, sources[1], MonitorClient.tellingDescriptor)
    unsafe csystem_spawn_close_from(&actions, MonitorClient.tellingDescriptor + 1)
    let strings = unsafe (["vnvram-swtpm"] + arguments).map { unsafe strdup($0) } + [nil]
    defer { unsafe strings.forEach { unsafe free($0) } }
    var child = pid_t()
    // This very file, whatever has its name by now.
    let code = unsafe posix_spawn(&child, "/proc/self/exe", &actions, nil, strings, environ)
    guard code == 0 else { throw LinkError(errno: code, "starting the TPM's own process from /proc/self/exe") }
    return child
  }

  /// Ends it at once; `ended` says when it has.
  func kill() { if end == nil { _ = Glibc.kill(pid, SIGKILL) } }

  private func stop() {
    kill()
    // One that is still another user's can't be killed, and ends by itself when it is alone.
    requests.hangUp()
    telling.hangUp()
    _ = wait(options: 0)
  }

  /// How it ended; nil while it runs.
  func ended() -> End? { wait(options: WNOHANG) }

  private func wait(options: Int32) -> End? {
    if let end { return end }
    var status: Int32 = 0
    var found: pid_t
    repeat { found = unsafe waitpid(pid, &status, options) } while found < 0 && errno == EINTR
    guard found != 0 else { return nil }
    let signal = status & 0x7F
    if found != pid {
      end = .exited(.failed)
    } else {
      end = signal == 0 ? .exited(Status(rawValue: status >> 8 & 0xFF) ?? .failed) : .signal(signal)
    }
    return end
  }
}
