import CSystem
import Glibc

/// The signals that mean something to a server as something to poll, so that it acts on them between two commands and
/// never within one: SIGTERM and SIGINT end it, SIGUSR1 has it look for keys.
final class ServerSignals {
  let descriptor: Int32
  private var previous = sigset_t()

  /// Blocks them in this thread, and so in every thread that it makes afterwards.
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
    for signal in [SIGTERM, SIGINT, SIGUSR1] { unsafe sigaddset(&set, signal) }
    return set
  }

  /// As `init`, for good: to be called before a program makes its first thread.
  static func block() {
    var signals = Self.signals
    unsafe pthread_sigmask(SIG_BLOCK, &signals, nil)
  }

  /// SIGUSR1 alone, whose default is the process's end.
  static func blockKeySignal() {
    var set = sigset_t()
    unsafe sigemptyset(&set)
    unsafe sigaddset(&set, SIGUSR1)
    unsafe pthread_sigmask(SIG_BLOCK, &set, nil)
  }

  /// The signal that came; nil where none is left.
  func next() -> Int32? {
    // struct signalfd_siginfo: 128 bytes, the number first.
    var info = [UInt32](repeating: 0, count: 32)
    return unsafe read(descriptor, &info, 128) == 128 ? Int32(bitPattern: info[0]) : nil
  }
}
