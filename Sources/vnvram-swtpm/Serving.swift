import Anchors
import Audit
import BlockIO
import Confinement
import Crypto
import Glibc
import Primitives
import ProgramIO
import SwtpmFormat
import VNVRAM
import VTPM

/// A server's life: until a client, a signal or an error ends it. The store is closed cleanly in any case.
///
/// What needs rights is done first: keys that are handed over are read, the image is opened and locked, the sockets are made,
/// the PID file is written. Then the process is confined, and only then is anything read that somebody else may have made: the
/// image's header is the first.
struct Serving {
  private let options: CommandLineOptions
  private let daemon: Daemon?
  private let log: Log

  init(_ options: CommandLineOptions, _ daemon: Daemon?, _ log: Log) {
    self.options = options
    self.daemon = daemon
    self.log = log
  }

  func run() throws -> Status {
    // Asked for while the user database can still be read.
    let user = try options.user.map { (name) throws(ConfinementError) in try RunAs(name) }
    prepareCrypto()
    // Before the store has threads, so that none of them takes a signal that the server waits for.
    Server.blockTerminationSignals()
    let audit = AuditLog(try auditDestination())
    let anchor = (try options.anchor ?? AnchorSpecification.ofEnvironment())?.absolute(Path.absolute)
    let keys = try StateKeys(options)
    let store = try NVRAMStateStore(
      image: options.image, audit: audit, keyLossPolicy: options.keyLossPolicy, anchor: anchor,
      failOnEncryptedDrive: options.failOnEncryptedDrive, version: options.server.version, onlyKey: keys.onlyKey,
      key: keys.given, asksForKeys: asksForKeys, isShared: isShared)
    let serverOptions = try serverOptions(keys)
    // With --migration incoming another server still has it.
    let folder = options.server.isIncoming ? nil : StateFolder(options.state, options.server.version)
    var isToBeMade = try folder.map { try !$0.hasImage(log) } ?? false
    // As the user who is to have it, where that is another one.
    if isToBeMade, user == nil {
      try folder?.makeImage(keys.first, audit, anchor, log, asksForKeys: asksForKeys)
      isToBeMade = false
    }
    if !options.server.isIncoming, !isToBeMade { try store.prepare() }
    let server = try Server(options: serverOptions, store: store, log: log)
    var pid = options.pid
    defer { pid?.remove() }
    let status: Status
    do {
      try pid?.make()
      // Named before a daemon is in another folder.
      let places = places(anchor)
      let standardError = try daemon?.detach()
      if let standardError { log.setBeside(standardError) }
      try confine(user, places, mayConnect: anchor?.isReachedBySockets ?? false, audit) {
        guard isToBeMade else { return }
        try folder?.makeImage(keys.first, audit, anchor, log, asksForKeys: asksForKeys)
        try store.prepare()
      }
      if !options.server.isIncoming { store.start() }
      status = server.run {
        do { try pid?.write() } catch {
          log.line("\(error)")
          return false
        }
        return tellThatItServes(standardError)
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

  /// Whether another server has the image before or after this one.
  private var isShared: Bool { options.server.isIncoming || options.server.releasesLockOutgoing }

  /// With `--key` there is nobody to ask.
  private var asksForKeys: Bool { options.asksForKeys && options.key == nil }

  private var isSharedDevice: Bool { isShared && FileDevice.isBlockDevice(options.image) }

  private func serverOptions(_ keys: StateKeys) throws(TPMError) -> ServerOptions {
    var server = options.server
    server.hasStateKey = keys.given != nil
    server.servesWhilePending = !options.failOnEncryptedDrive
    do throws(SwtpmKeyError) { server.migrationKey = try options.migrationKey?.load() } catch {
      throw .key(option: OptionName.migrationKey.rawValue, error)
    }
    return server
  }

  /// Before libtpms uses libcrypto, which shares its allocator with it.
  private func prepareCrypto() {
    CryptoLibrary.prepare()
    if !CryptoLibrary.keepsKeysProtected { log.line("libcrypto keeps keys in ordinary memory while they are in use") }
    if let lack = CryptoLibrary.lackOfProtection { log.line(lack) }
  }

  /// A path in the environment may be relative, too.
  private func auditDestination() throws -> AuditDestination {
    let destination = try options.audit ?? AuditDestination.standard()
    guard case .file(let path) = destination else { return destination }
    return .file(Path.absolute(path))
  }

  /// What is taken again, or only then, and what is removed in the end: the sockets and the PID file.
  private func places(_ anchor: AnchorSpecification?) -> Landlock {
    var places = Landlock()
    for folder in options.server.socketDirectories + (options.pid?.folder.map { [$0] } ?? []) {
      places.allow(.removeFiles, Path.absolute(folder))
    }
    if isShared { places.allow(isSharedDevice ? .useDevice : .write, options.image) }
    // A TPM is connected to by now; files are opened when the store is.
    if let file = anchor?.file { places.allow(.write, file) }
    return places
  }

  /// Gives up everything but `places`, whose paths are absolute, and what the record of uses needs.
  ///
  /// - Parameter beforehand: what is to be done as the other user, and needs more than that.
  private func confine(
    _ user: RunAs?, _ places: Landlock, mayConnect: Bool, _ audit: AuditLog, _ beforehand: () throws -> Void
  ) throws {
    var confinement = Confinement()
    confinement.user = user
    confinement.places = places
    confinement.mayConnect = mayConnect
    confinement.mayOpenDevices = isSharedDevice
    confinement.mayRequestKeys = asksForKeys
    confinement.violations = options.violations
    try confinement.becomeUser()
    try beforehand()
    for place in audit.prepare() { confinement.places.allow(place.isFile ? .write : .makeFiles, place.path) }
    confinement.places.allow(.read, "/proc/keys")
    for lack in try confinement.apply() { log.line(lack) }
  }

  /// From here on messages are the log's alone, where there is one. False where who started a daemon is gone: then nobody
  /// knows that it runs.
  private func tellThatItServes(_ standardError: Int32?) -> Bool {
    guard let daemon else {
      if options.log.isElsewhere { log.setBeside(-1) }
      return true
    }
    // Closed first: who reads it, up to its end, may be who waits for the parent.
    log.setBeside(-1)
    if let standardError { close(standardError) }
    return daemon.isReady()
  }
}
