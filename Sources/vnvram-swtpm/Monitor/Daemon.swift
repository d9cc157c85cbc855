import CSystem
import Glibc
import Primitives
import VTPM

/// `--daemon`: the server goes on in a child, and who started it is told how that went.
///
/// The child is made before anything else: memory for keys, libcrypto and threads don't outlive a fork. The parent
/// waits until the child serves, and ends with 0; or until the child has ended, and ends as it did. Messages come from
/// the child, which has the parent's standard error until then.
struct Daemon {
  /// Written to when the server serves; the parent reads.
  private let ready: Int32

  /// Returns in the child only, which has a session of its own.
  ///
  /// - Parameter manager: is told by the parent, which it believes: it has started that one.
  static func start(_ manager: ServiceManager?) throws(TPMError) -> Daemon {
    var ends: [Int32] = [-1, -1]
    guard unsafe pipe(&ends) == 0 else { throw failed("pipe") }
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    let child = csystem_fork()
    guard child >= 0 else { throw failed("fork") }
    guard child == 0 else {
      close(ends[1])
      wait(ends[0], child, manager)
    }
    close(ends[0])
    // Whoever signals the parent's group doesn't mean the server.
    _ = setsid()
    return Daemon(ready: ends[1])
  }

  private static func failed(_ call: String) -> TPMError {
    .socket(operation: call, address: OptionName.daemon.rawValue, errno: errno)
  }

  /// The parent's part.
  private static func wait(_ ready: Int32, _ child: pid_t, _ manager: ServiceManager?) -> Never {
    var (byte, count): (UInt8, Int) = (0, -1)
    repeat { count = unsafe read(ready, &byte, 1) } while count < 0 && errno == EINTR
    if count == 1 {
      manager?.ready(in: child)
      _exit(0)
    }
    var (status, got): (Int32, pid_t) = (0, -1)
    repeat { got = unsafe waitpid(child, &status, 0) } while got < 0 && errno == EINTR
    guard got == child, status & 0x7F == 0 else {
      Log.standardError.line("the server ended on signal \(status & 0x7F) before it was ready")
      _exit(Status.failed.rawValue)
    }
    _exit(status >> 8 & 0xFF)
  }

  /// Leaves the folder and the standard streams that it was started with. Returns a descriptor of what was standard
  /// error, for messages until the server serves.
  func detach() throws(TPMError) -> Int32 {
    let standardError = fcntl(2, F_DUPFD_CLOEXEC, 3)
    let nothing = unsafe open("/dev/null", O_RDWR | O_CLOEXEC)
    guard nothing >= 0, unsafe chdir("/") == 0 else { throw Self.failed("/dev/null") }
    for stream in Int32(0)...2 { dup2(nothing, stream) }
    if nothing > 2 { close(nothing) }
    return standardError
  }

  /// Lets the parent end. False where it is gone: then nobody knows that the server runs.
  func isReady() -> Bool {
    var byte: UInt8 = 1
    defer { close(ready) }
    return unsafe write(ready, &byte, 1) == 1
  }
}
