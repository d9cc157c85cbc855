import CSystem
import Glibc
import Primitives
import VTPM

/// The worker, as the process that made it sees it: a child that was forked before this one had any secret, and that
/// has nothing of it but standard error and its ends of the two channels.
///
/// It isn't the program started once more: that, libcrypto's and Swift's beginnings among it, took a third more time at
/// the start, and a megabyte more. Both have their code and heap at the same addresses therefore; where keys lie each
/// chooses anew (`SecretMemory`).
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

  /// Makes it. It waits for its configuration.
  ///
  /// To be called while this process has one thread, no secret, and no memory for any.
  ///
  /// - Parameter image: for who looks at the list of processes.
  init(_ configuration: WorkerConfiguration, image: String) throws(LinkError) {
    let (requests, telling) = (try Link.Pair(), try Link.Pair())
    let child = csystem_fork()
    guard child >= 0 else { throw LinkError(errno: errno, "making the TPM's own process") }
    guard child > 0 else {
      unsafe csystem_set_title(CommandLine.argc, "vnvram-swtpm \(Worker.name) \(image)")
      exit(Worker.run(configuration, requests: requests.other, telling: telling.other).rawValue)
    }
    pid = child
    (self.requests, self.telling) = (requests.adopt(), telling.adopt())
  }

  deinit { stop() }

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
