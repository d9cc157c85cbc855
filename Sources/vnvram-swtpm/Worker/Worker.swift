import Confinement
import Crypto
import Glibc
import Primitives
import ProgramIO
import VNVRAM
import VTPM

/// The process that has libtpms, and that is taken for lost to an attacker who breaks it (SECURITY.md): it gets an
/// image, sockets and a store key from the monitor, which made it, and can reach nothing else.
enum Worker {
  /// In the list of processes.
  static let name = "worker"

  /// What a child does that was just forked, with these ends of the channels.
  static func run(_ configuration: WorkerConfiguration, requests: Int32, telling: Int32) -> Status {
    let parent = getppid()
    var log = Log.standardError
    do {
      try keepOnly(requests, telling, configuration.log)
      log = Log(
        descriptor: configuration.log < 0 ? -1 : logDescriptor, prefix: configuration.logPrefix, beside: 2)
      return try serve(configuration, parent, log)
    } catch {
      let error = Failure(error)
      log.line("\(error)")
      return error.status
    }
  }

  private static let logDescriptor: Int32 = 5

  /// Closes every descriptor but standard error and these, which get the numbers that they are known by, in the place
  /// of what had them.
  private static func keepOnly(_ requests: Int32, _ telling: Int32, _ log: Int32) throws {
    // Above those numbers, so that none of them is overwritten before it has moved.
    let nothing = fcntl(unsafe open("/dev/null", O_RDWR), F_DUPFD, 16)
    let (requests, telling) = (fcntl(requests, F_DUPFD, 16), fcntl(telling, F_DUPFD, 16))
    var moves = [
      (nothing, 0), (nothing, 1), (requests, MonitorClient.requestsDescriptor),
      (telling, MonitorClient.tellingDescriptor),
    ]
    if log >= 0 { moves.append((fcntl(log, F_DUPFD, 16), logDescriptor)) }
    for (from, to) in moves where dup2(from, to) < 0 {
      throw LinkError(errno: errno, "taking over from the monitor")
    }
    // Nothing is opened by its name, and no file system kept in use.
    _ = unsafe chdir("/")
    try InheritedDescriptors.closeAll(except: [2] + moves.map(\.1))
  }

  private static func serve(_ configuration: WorkerConfiguration, _ parent: pid_t, _ log: Log) throws -> Status {
    CryptoLibrary.prepare()
    leaveFIPSMode(log)
    // Before the store has threads, so that none of them takes a signal that the server waits for.
    Server.blockTerminationSignals()
    let requests = Link(adopting: MonitorClient.requestsDescriptor)
    let telling = Link(adopting: MonitorClient.tellingDescriptor)
    // The monitor gets ready meanwhile, and then sends it. One that ended has said why.
    let monitor = MonitorClient(requests: requests, telling: telling)
    let store = try NVRAMStateStore(
      monitor, configuration.server.version, hasAnchor: configuration.hasAnchor)
    let beginnings = try ServerBeginnings(configuration.server.version, store, log)
    try confine(configuration, parent)
    guard let equipment = try? monitor.awaitEquipment() else { return .failed }
    let server = try Server(options: configuration.server(with: equipment, monitor), beginnings, store: store, log: log)
    var (failure, closing): (Status?, NVRAMError?) = (nil, nil)
    func release() {
      failure = store.failure
      // While the image is locked: the next server, which has the lock first, finds the sockets' names free, and keeps
      // its own.
      monitor.tellEnding()
      do throws(NVRAMError) { try store.close() } catch { closing = error }
    }
    let status: Status
    do {
      if !configuration.server.isIncoming { try store.begin() }
      status = server.run(release: release) {
        if configuration.leavesStandardError {
          log.setBeside(-1)
          // What was closed there could be taken by something else.
          dup2(0, 2)
        }
        return monitor.tellServing()
      }
    } catch {
      server.close()
      monitor.tellEnding()
      try? store.close()
      throw error
    }
    if let closing { throw closing }
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

extension WorkerConfiguration {
  /// The server's options, with channels that are open.
  fileprivate func server(with equipment: WorkerEquipment, _ monitor: MonitorClient) -> ServerOptions {
    var options = server
    if equipment.data >= 0 { options.data?.take(equipment.data) }
    if equipment.control >= 0 { options.control?.take(equipment.control) }
    options.migrationKey = equipment.migrationKey
    if equipment.stateKeySize > 0 {
      options.stateKey = MonitoredStateKey(monitor: monitor, count: Int(equipment.stateKeySize))
    }
    return options
  }
}
