import Confinement
import Crypto
import Glibc
import Primitives
import ProgramIO
import VTPM

/// The process that has libtpms, and that is taken for lost to an attacker who breaks it (SECURITY.md): it gets an image, sockets
/// and a store key from the monitor, which started it, and can reach nothing else.
enum Worker {
  /// The first argument of the program.
  static let name = "worker"

  static func run() -> Status {
    let parent = getppid()
    let kept = [0, 1, 2, MonitorClient.requestsDescriptor, MonitorClient.tellingDescriptor]
    do { try InheritedDescriptors.closeAll(except: kept) } catch {
      Log.standardError.line("\(error)")
      return error.status
    }
    let monitor = Link(adopting: MonitorClient.requestsDescriptor)
    let telling = Link(adopting: MonitorClient.tellingDescriptor)
    let configuration: WorkerConfiguration
    do { configuration = try WorkerConfiguration(receivingOn: monitor) } catch {
      // A monitor that ended has said why.
      guard fcntl(MonitorClient.requestsDescriptor, F_GETFD) < 0 else { return .failed }
      Log.standardError.line("this command is vnvram-swtpm's own, and not for people: see vnvram-swtpm --help")
      return .usage
    }
    let log = Log(descriptor: configuration.log, prefix: configuration.logPrefix, beside: 2)
    do {
      return try serve(configuration, MonitorClient(requests: monitor, telling: telling), parent, log)
    } catch {
      let error = Failure(error)
      log.line("\(error)")
      return error.status
    }
  }

  private static func serve(
    _ configuration: WorkerConfiguration, _ monitor: MonitorClient, _ parent: pid_t, _ log: Log
  ) throws -> Status {
    CryptoLibrary.prepare()
    leaveFIPSMode(log)
    // Before the store has threads, so that none of them takes a signal that the server waits for.
    Server.blockTerminationSignals()
    let store = try NVRAMStateStore(
      monitor, configuration.server.version, hasAnchor: configuration.hasAnchor)
    var options = configuration.server
    if configuration.stateKeySize > 0 {
      options.stateKey = MonitoredStateKey(monitor: monitor, count: Int(configuration.stateKeySize))
    }
    let server = try Server(options: options, store: store, log: log)
    let status: Status
    do {
      try confine(configuration, parent)
      if !configuration.server.isIncoming { try store.begin() }
      status = server.run {
        if configuration.leavesStandardError {
          log.setBeside(-1)
          // What was closed there could be taken by something else.
          dup2(0, 2)
        }
        return monitor.tellServing()
      }
    } catch {
      server.close()
      try? store.close()
      throw error
    }
    let failure = store.failure
    try store.close()
    return status == .done ? failure ?? .done : status
  }

  /// In this process alone, once it has what the store needs.
  private static func leaveFIPSMode(_ log: Log) {
    guard FIPSMode.isOn else { return }
    log.line(
      FIPSMode.leave()
        ? "libcrypto is in FIPS mode; the TPM's process leaves it, since libtpms needs more than FIPS allows"
        : "libcrypto is in FIPS mode and doesn't leave it: libtpms' self-test will fail")
  }

  private static func confine(_ configuration: WorkerConfiguration, _ parent: pid_t) throws(ConfinementError) {
    var confinement = Confinement(.worker)
    confinement.user = configuration.user
    confinement.violations = configuration.violations
    confinement.parent = parent
    try confinement.becomeUser()
    _ = try confinement.apply()
  }
}
