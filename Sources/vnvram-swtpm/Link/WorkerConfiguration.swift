import Confinement
import Primitives
import VTPM

/// What the worker knows from its first moment on: what the command line and the options file said, as far as it
/// concerns a TPM and its two channels.
struct WorkerConfiguration {
  /// Its channels' places are the monitor's to open.
  var server: ServerOptions
  /// Whether the monitor has an anchor.
  var hasAnchor: Bool
  var violations: SystemCallFilter.Action
  /// Who to go on as.
  var user: RunAs?
  /// The log's descriptor, in the monitor; -1 where that is standard error alone.
  var log: Int32
  var logPrefix: String
  /// Whether standard error is given up when clients are served: the log is elsewhere, or this is a daemon.
  var leavesStandardError: Bool
}
