import CSystem
import Glibc

/// The signals that mean something to the monitor, as something to poll: SIGTERM and SIGINT end the server, SIGUSR1 has
/// it look for keys, SIGCHLD says that the worker has ended.
final class MonitorSignals {
  let descriptor: Int32

  /// Blocks them in this thread, and so in every thread that it makes afterwards.
  init() {
    var signals = sigset_t()
    unsafe sigemptyset(&signals)
    for signal in [SIGTERM, SIGINT, SIGUSR1, SIGCHLD] { unsafe sigaddset(&signals, signal) }
    unsafe pthread_sigmask(SIG_BLOCK, &signals, nil)
    descriptor = unsafe csystem_signal_descriptor(&signals)
  }

  deinit { close(descriptor) }

  /// The signal that came; nil where none is left.
  func next() -> Int32? {
    // struct signalfd_siginfo: 128 bytes, the number first.
    var info = [UInt32](repeating: 0, count: 32)
    return unsafe read(descriptor, &info, 128) == 128 ? Int32(bitPattern: info[0]) : nil
  }
}
