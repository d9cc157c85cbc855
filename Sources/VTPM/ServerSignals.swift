import CSystem
import Glibc

/// SIGTERM and SIGINT as something to poll, so that the server ends between two commands and never within one.
final class TerminationSignals {
  let descriptor: Int32
  private var previous = sigset_t()

  /// Blocks both in this thread, and so in every thread that it makes afterwards.
  init() {
    var signals = Self.signals
    unsafe pthread_sigmask(SIG_BLOCK, &signals, &previous)
    descriptor = unsafe csystem_signal_descriptor(&signals)
  }

  deinit {
    close(descriptor)
    unsafe pthread_sigmask(SIG_SETMASK, &previous, nil)
  }

  private static var signals: sigset_t {
    var set = sigset_t()
    unsafe sigemptyset(&set)
    unsafe sigaddset(&set, SIGTERM)
    unsafe sigaddset(&set, SIGINT)
    return set
  }

  /// As `init`, for good: to be called before a program makes its first thread.
  static func block() {
    var signals = Self.signals
    unsafe pthread_sigmask(SIG_BLOCK, &signals, nil)
  }
}
