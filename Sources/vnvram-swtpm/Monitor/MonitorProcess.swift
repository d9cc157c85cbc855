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
/// There are two processes, as OpenSSH has them. This one, the monitor, finds keys and uses them, writes the record,
/// holds the anchor, makes and removes sockets and PID file, and heeds signals. The worker has libtpms, the image and
/// the clients, and gets the store key alone; whoever takes it over reaches nothing else (SECURITY.md).
///
/// What needs rights is done first: keys that are handed over are read, the image is opened and locked, the sockets are
/// made, the PID file is written. Then each process is confined, and only then is anything read that somebody else may
/// have made: the image's header is the first.
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
    let specification = (try options.anchor ?? AnchorSpecification.ofEnvironment())?.absolute(Path.absolute)
    // Once for both.
    CryptoLibrary.load()
    // It gets ready while the rest is done here.
    let worker = try WorkerProcess(
      workerConfiguration(user, hasAnchor: specification != nil), image: options.image)
    try prepareCrypto()
    let audit = AuditLog(try options.auditDestination(log, for: user), subcommand: "socket")
    if let user { audit.makeStandardFolder(for: user.name, user.user, user.group) }
    let keys = try StateKeys(options)
    try keys.requireSource()
    var migrationKey = try migrationKey()
    let anchor = try specification?.make()
    // From here on there may be something to take back; before, while keys are waited for, they end this process.
    let signals = MonitorSignals()
    let place = options.place
    let first = FirstImage(
      version: options.server.version, key: keys.first, anchor: specification, audit: audit, asksForKeys: asksForKeys,
      log: log)
    let swtpmLock = try place?.lock()
    var isToBeMade = try place?.isVacant() ?? false
    if isToBeMade {
      try first.requireKey(for: options.image)
      try place?.prepare(owner: user.map { ($0.user, $0.group) })
    }
    let images = ImageDesk(options.image)
    defer { images.withdraw() }
    let isForIncoming = isToBeMade && options.server.isIncoming && options.isInFolder
    func makeImage() throws {
      try place?.makeImage(first)
      if options.server.isIncoming { try images.openNew(isWithdrawn: isForIncoming) }
    }
    // Another server still has it, perhaps: it is looked at now, while that can be done, and opened when it is needed.
    if options.server.isIncoming, !isToBeMade {
      try place?.accept(try FileDevice.openUnlocked(path: options.image), log)
    }
    // As the user who is to have it, where that is another one.
    if isToBeMade, user == nil {
      try makeImage()
      isToBeMade = false
    }
    let desk = KeyDesk(
      audit, keyConfiguration(keys), given: keys.given, failOnEncryptedDrive: options.failOnEncryptedDrive,
      isShared: isShared, hasAnchor: anchor != nil, original: anchor == nil ? nil : original, log)
    // With --migration incoming another server still has it.
    let openImage = {
      try images.openAtStart { image in
        try place?.accept(image, log)
        for notice in image.blockNotices { log.line("\(options.image): \(notice)") }
      }
    }
    if !options.server.isIncoming, !isToBeMade { try openImage() }
    let sockets = try ServerSockets(options.server, log: log)
    let presence = ServerPresence(sockets, options, daemon, manager, log)
    defer { presence.withdraw() }
    try presence.writePIDFile(for: user?.user)
    try WorkerEquipment.send(
      sockets, migrationKey: migrationKey, stateKeySize: keys.cipher?.count ?? 0, on: worker.requests)
    // They are the worker's from now on.
    migrationKey = nil
    sockets.handedOver()
    // Named before a daemon is in another folder.
    var places = places(specification)
    if isForIncoming { places.allow(.removeFiles, Path.folder(of: options.image)) }
    try presence.detach()
    try confine(user, places, worker.pid, mayConnect: specification?.isReachedBySockets ?? false, audit) {
      defer { swtpmLock?.release() }
      guard isToBeMade else { return }
      try makeImage()
      if !options.server.isIncoming { try openImage() }
    }
    var loop = MonitorLoop(
      worker: worker, signals: signals, desk: desk, images: images, anchor: anchor.map { AnchorDesk($0) },
      presence: presence, ciphers: keys.cipher.map { StateCipherDesk($0) }, log: log)
    return loop.run()
  }

  /// The image that this one's folder was copied from, where that is still in its place. Nothing of it is read yet.
  private var original: FileDevice? {
    guard options.isInFolder, let former = StateMarker(image: options.image).formerImage else {
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

  private func workerConfiguration(_ user: RunAs?, hasAnchor: Bool) -> WorkerConfiguration {
    var server = options.server
    server.servesWhilePending = !options.failOnEncryptedDrive
    return WorkerConfiguration(
      server: server, hasAnchor: hasAnchor, violations: options.violations, user: user, log: log.descriptor,
      logPrefix: log.prefix, leavesStandardError: daemon != nil || options.log.isElsewhere)
  }

  private func migrationKey() throws(TPMError) -> SwtpmKey? {
    do throws(SwtpmKeyError) { return try options.migrationKey?.load() } catch {
      throw .key(option: OptionName.migrationKey.rawValue, error)
    }
  }

  /// Before keys are used.
  private func prepareCrypto() throws {
    CryptoLibrary.prepare()
    if let lack = CryptoLibrary.lackOfAlgorithms { throw Failure(.failed, lack) }
    if !CryptoLibrary.keepsKeysProtected { log.line("libcrypto keeps keys in ordinary memory while they are in use") }
    if let lack = CryptoLibrary.lackOfProtection { log.line(lack) }
  }

  /// What is taken again, or only then, and what is removed in the end: the sockets and the PID file.
  private func places(_ anchor: AnchorSpecification?) -> Landlock {
    var places = Landlock()
    for folder in options.server.socketDirectories + (options.pid?.folder.map { [$0] } ?? []) {
      places.allow(.removeFiles, Path.absolute(folder))
    }
    if isShared {
      places.allow(isSharedDevice ? .useDevice : .write, options.image)
      for file in FileDevice.deviceDescriptions(options.image) { places.allow(.read, file) }
    }
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
    confinement.mayAllocate = isShared
    confinement.mayRequestKeys = asksForKeys
    confinement.violations = options.violations
    try confinement.becomeUser()
    try beforehand()
    if let folder = audit.prepare() { confinement.places.allow(.makeFiles, folder) }
    confinement.places.allow(.read, "/proc/keys")
    for lack in try confinement.apply() { log.line(lack) }
  }
}
