import Glibc
import VTPM

/// What others see of the server: its sockets' files, its PID file, and what who started it and a service manager are
/// told.
///
/// Invariant: what was withdrawn isn't touched again: by then it may be the next server's.
final class ServerPresence {
  private let sockets: ServerSockets
  private var pid: PIDFile?
  private let daemon: Daemon?
  private let manager: ServiceManager?
  private let log: Log
  /// Whether the log is elsewhere than in standard error.
  private let isLogElsewhere: Bool
  /// What was standard error, of a daemon that doesn't serve yet.
  private var standardError: Int32 = -1

  init(
    _ sockets: ServerSockets, _ options: CommandLineOptions, _ daemon: Daemon?, _ manager: ServiceManager?, _ log: Log
  ) {
    self.sockets = sockets
    pid = options.pid
    self.daemon = daemon
    self.manager = manager
    isLogElsewhere = options.log.isElsewhere
    self.log = log
  }

  /// Before rights are given up; the sockets listen by now.
  ///
  /// - Parameter user: who the server goes on as.
  func writePIDFile(for user: uid_t?) throws { try pid?.write(for: user) }

  /// A daemon leaves where it was started.
  func detach() throws {
    guard let daemon else { return }
    standardError = try daemon.detach()
    log.setBeside(standardError)
  }

  /// Clients are served. From here on messages are the log's alone, where there is one. False where who started a
  /// daemon is gone: then nobody knows that it runs.
  func announce() -> Bool {
    guard let daemon else {
      if isLogElsewhere { log.setBeside(-1) }
      manager?.ready()
      return true
    }
    // Closed first: who reads it, up to its end, may be who waits for the parent.
    log.setBeside(-1)
    if standardError >= 0 { close(standardError) }
    standardError = -1
    return daemon.isReady()
  }

  /// How the server is, in words for people.
  func show(_ situation: String) { manager?.status(situation) }

  /// It is about to end.
  func isEnding() { manager?.stopping() }

  /// Nothing is to be seen of it any more.
  func withdraw() {
    isEnding()
    sockets.remove()
    pid?.remove()
    pid = nil
  }
}
