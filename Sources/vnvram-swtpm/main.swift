// A TPM whose state lies in a vnvram image, with swtpm's command line and protocols. What it does is in VTPM (the
// server and libtpms) and in VNVRAM (the store); here they are put together.
import Anchors
import Audit
import Confinement
import Crypto
import Glibc
import Primitives
import ProgramIO
import VNVRAM
import VTPM

ProcessSetup.run()
exit(Program.run(Array(CommandLine.arguments.dropFirst())).rawValue)

enum Program {
  static func run(_ arguments: [String]) -> Status {
    if arguments.first == LoadStates.name { return LoadStates.run(arguments.dropFirst()) }
    let log = Log.standardError
    do {
      switch try CommandLineOptions.parse(arguments) {
      case .help:
        print(CommandLineOptions.help, terminator: "")
        return .done
      case .version:
        print("TPM emulator vnvram-swtpm version \(CommandLineOptions.version)")
        return .done
      case .serve(let options):
        return try serve(options, log)
      }
    } catch let error as any StatusError {
      log.line("\(error)")
      return error.status
    } catch {
      log.line("\(error)")
      return .failed
    }
  }

  /// Runs until a client, a signal or an error ends it. The store is closed cleanly in any case.
  ///
  /// What needs rights is done first: the image is opened and locked, the sockets are made. Then the process is confined, and
  /// only then is anything read that somebody else may have made: the image's header is the first.
  private static func serve(_ options: CommandLineOptions, _ log: Log) throws -> Status {
    // Asked for while the user database can still be read.
    let user = try options.user.map { (name) throws(ConfinementError) in try RunAs(name) }
    // Before libtpms uses libcrypto, which shares its allocator with it.
    CryptoLibrary.prepare()
    if !CryptoLibrary.keepsKeysProtected { log.line("libcrypto keeps keys in ordinary memory while they are in use") }
    // Before the store has threads, so that none of them takes a signal that the server waits for.
    Server.blockTerminationSignals()
    let audit = AuditLog(try options.audit ?? AuditDestination.standard())
    let specification = try options.anchor ?? AnchorSpecification.ofEnvironment()
    let isShared = options.server.isIncoming || options.server.releasesLockOutgoing
    let key = try StateKeys(options)
    let store = NVRAMStateStore(
      image: options.image, audit: audit, keyLossPolicy: options.keyLossPolicy, anchor: specification,
      failOnEncryptedDrive: options.failOnEncryptedDrive, version: options.server.version, onlyKey: key.onlyKey,
      key: key.given, isShared: isShared)
    // With --migration incoming another server still has it.
    let folder = options.server.isIncoming ? nil : StateFolder(options.state, options.server.version)
    var isToBeMade = try folder.map { try !$0.hasImage(log) } ?? false
    // As the user who is to have it, where that is another one.
    if isToBeMade, user == nil {
      try folder?.makeImage(key.first, audit, specification, log)
      isToBeMade = false
    }
    if !options.server.isIncoming, !isToBeMade { try store.prepare() }
    var serverOptions = options.server
    serverOptions.hasStateKey = key.given != nil
    let server = try Server(options: serverOptions, store: store, log: log)
    var places = Landlock()
    // What is taken again, or only then.
    if isShared { places.allow(.write, options.image) }
    // A TPM is connected to by now; files are opened when the store is.
    if let file = specification?.file { places.allow(.write, file) }
    let status: Status
    do {
      try confine(options, user, places, mayConnect: specification?.isReachedBySockets ?? false, audit, log) {
        guard isToBeMade else { return }
        try folder?.makeImage(key.first, audit, specification, log)
        try store.prepare()
      }
      if !options.server.isIncoming { store.start() }
      status = server.run()
    } catch {
      server.close()
      try? store.close()
      throw error
    }
    let failure = store.failure
    try store.close()
    return status == .done ? failure ?? .done : status
  }

  /// Gives up everything but `places` and what the record of uses and the sockets need.
  private static func confine(
    _ options: CommandLineOptions, _ user: RunAs?, _ places: Landlock, mayConnect: Bool, _ audit: AuditLog, _ log: Log,
    _ beforehand: () throws -> Void
  ) throws {
    var confinement = Confinement()
    confinement.user = user
    confinement.places = places
    confinement.mayConnect = mayConnect
    confinement.violations = options.violations
    try confinement.becomeUser()
    try beforehand()
    for place in audit.prepare() { confinement.places.allow(place.isFile ? .write : .makeFiles, place.path) }
    for directory in options.server.socketDirectories { confinement.places.allow(.removeFiles, directory) }
    confinement.places.allow(.read, "/proc/keys")
    for lack in try confinement.apply() { log.line(lack) }
  }
}
