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

/// A server's life, as the process that people see has it: until its worker, a signal or an error ends it.
///
/// There are two processes, as OpenSSH has them. This one, the monitor, finds keys and uses them, writes the record, holds the
/// anchor, makes and removes sockets and PID file, and heeds signals. The worker has libtpms, the image and the clients, and gets
/// the store key alone; whoever takes it over reaches nothing else (SECURITY.md).
///
/// What needs rights is done first: keys that are handed over are read, the image is opened and locked, the sockets are made,
/// the PID file is written. Then each process is confined, and only then is anything read that somebody else may have made: the
/// image's header is the first.
struct MonitorProcess {
  private let options: CommandLineOptions
  private let daemon: Daemon?
  private let manager: ServiceManager?
  private let log: Log

  init(_ options: CommandLineOptions, _ daemon: Daemon?, _ manager: ServiceManager?, _ log: Log) {
    self.options = options
    self.daemon = daemon
    self.manager = manager
    self.log = log
  }

  func run() throws -> Status {
    // Asked for while the user database can still be read.
    let user = try options.user.map { (name) throws(ConfinementError) in try RunAs(name) }
    let signals = MonitorSignals()
    // It gets ready while the rest is done here.
    let worker = try WorkerProcess(image: options.image)
    prepareCrypto()
    let audit = AuditLog(try options.auditDestination(log, for: user), subcommand: "socket")
    if let user { audit.makeStandardFolder(for: user.name, user.user, user.group) }
    let specification = (try options.anchor ?? AnchorSpecification.ofEnvironment())?.absolute(Path.absolute)
    let keys = try StateKeys(options)
    try keys.requireSource()
    let anchor = try specification?.make()
    var configuration = try workerConfiguration(keys, user)
    configuration.hasAnchor = anchor != nil
    let folder = StateFolder(options.state, options.server.version)
    var isToBeMade = try folder.map { try !$0.hasImage(log) } ?? false
    var provisional: ProvisionalImage?
    func makeImage() throws {
      try folder?.makeImage(keys.first, audit, specification, log, asksForKeys: asksForKeys)
      if options.server.isIncoming { provisional = ProvisionalImage(at: options.image) }
    }
    let images = ImageDesk(options.image)
    defer { if !images.wasHandedOver { provisional?.withdraw() } }
    let isForIncoming = isToBeMade && options.server.isIncoming
    // As the user who is to have it, where that is another one.
    if isToBeMade, user == nil {
      try makeImage()
      isToBeMade = false
    }
    let desk = KeyDesk(
      audit, keyConfiguration(keys), given: keys.given, failOnEncryptedDrive: options.failOnEncryptedDrive,
      isShared: isShared, hasAnchor: anchor != nil, original: anchor == nil ? nil : original, log)
    // With --migration incoming another server still has it.
    if !options.server.isIncoming, !isToBeMade { try images.openAtStart() }
    let sockets = try ServerSockets(options.server, log: log)
    let presence = ServerPresence(sockets, options, daemon, manager, log)
    defer { presence.withdraw() }
    try presence.writePIDFile()
    // Named before a daemon is in another folder.
    var places = places(specification)
    if isForIncoming { places.allow(.removeFiles, Path.folder(of: options.image)) }
    try presence.detach()
    try confine(user, places, worker.pid, mayConnect: specification?.isReachedBySockets ?? false, audit) {
      guard isToBeMade else { return }
      try makeImage()
      if !options.server.isIncoming { try images.openAtStart() }
    }
    try configuration.send(on: worker.requests, sockets: sockets, log: log.descriptor)
    sockets.handedOver()
    // It is the worker's from now on.
    configuration.server.migrationKey = nil
    var loop = MonitorLoop(
      worker: worker, signals: signals, desk: desk, images: images, anchor: anchor.map { AnchorDesk($0) },
      presence: presence, log: log)
    return loop.run()
  }

  /// The image that this one's folder was copied from, where that is still in its place. Nothing of it is read yet.
  private var original: FileDevice? {
    guard options.state?.makesImage == true, let former = StateMarker(image: options.image).formerImage else {
      return nil
    }
    var (own, found) = (stat(), stat())
    guard unsafe stat(options.image, &own) == 0, unsafe lstat(former, &found) == 0, found.st_mode & S_IFMT == S_IFREG,
      own.st_dev != found.st_dev || own.st_ino != found.st_ino
    else { return nil }
    return try? FileDevice.openUnlocked(path: former)
  }

  /// Whether another server has the image before or after this one.
  private var isShared: Bool { options.server.isIncoming || options.server.releasesLockOutgoing }

  /// With `--key` there is nobody to ask.
  private var asksForKeys: Bool { options.asksForKeys && options.key == nil }

  private var isSharedDevice: Bool { isShared && FileDevice.isBlockDevice(options.image) }

  private func keyConfiguration(_ keys: StateKeys) -> NVRAMConfiguration {
    var configuration = NVRAMConfiguration()
    configuration.keyLossPolicy = options.keyLossPolicy
    configuration.onlyKey = keys.onlyKey
    configuration.asksForKeys = asksForKeys
    return configuration
  }

  private func workerConfiguration(_ keys: StateKeys, _ user: RunAs?) throws(TPMError) -> WorkerConfiguration {
    var configuration = WorkerConfiguration()
    configuration.server = options.server
    configuration.server.hasStateKey = keys.given != nil
    configuration.server.servesWhilePending = !options.failOnEncryptedDrive
    do throws(SwtpmKeyError) { configuration.server.migrationKey = try options.migrationKey?.load() } catch {
      throw .key(option: OptionName.migrationKey.rawValue, error)
    }
    configuration.violations = options.violations
    configuration.user = user
    configuration.logPrefix = log.prefix
    configuration.leavesStandardError = daemon != nil || options.log.isElsewhere
    return configuration
  }

  /// Before keys are used.
  private func prepareCrypto() {
    CryptoLibrary.prepare()
    if !CryptoLibrary.keepsKeysProtected { log.line("libcrypto keeps keys in ordinary memory while they are in use") }
    if let lack = CryptoLibrary.lackOfProtection { log.line(lack) }
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
    _ user: RunAs?, _ places: Landlock, _ worker: pid_t, mayConnect: Bool, _ audit: AuditLog,
    _ beforehand: () throws -> Void
  ) throws {
    var confinement = Confinement(.monitor)
    confinement.user = user
    confinement.places = places
    confinement.worker = worker
    confinement.mayConnect = mayConnect
    confinement.mayOpenDevices = isSharedDevice
    confinement.mayRequestKeys = asksForKeys
    confinement.violations = options.violations
    try confinement.becomeUser()
    try beforehand()
    if let folder = audit.prepare() { confinement.places.allow(.makeFiles, folder) }
    confinement.places.allow(.read, "/proc/keys")
    for lack in try confinement.apply() { log.line(lack) }
  }
}
