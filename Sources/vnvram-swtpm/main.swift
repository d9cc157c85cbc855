// A TPM 2.0 whose state lies in a vnvram image, with swtpm's command line and protocols. What it does is in VTPM (the
// server and libtpms) and in VNVRAM (the store); here they are put together.
import Anchors
import Audit
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
  private static func serve(_ options: CommandLineOptions, _ log: Log) throws -> Status {
    // Before libtpms uses libcrypto, which shares its allocator with it.
    CryptoLibrary.prepare()
    if !CryptoLibrary.keepsKeysProtected { log.line("libcrypto keeps keys in ordinary memory while they are in use") }
    // Before the store has threads, so that none of them takes a signal that the server waits for.
    Server.blockTerminationSignals()
    let audit = AuditLog(try options.audit ?? AuditDestination.standard())
    let anchor = try (options.anchor ?? AnchorSpecification.ofEnvironment())?.make()
    let store = try NVRAMStateStore(
      image: options.image, audit: audit, keyLossPolicy: options.keyLossPolicy, anchor: anchor)
    try store.start(failOnEncryptedDrive: options.failOnEncryptedDrive)
    let status: Status
    do {
      status = try Server(options: options.server, store: store, log: log).run()
    } catch {
      try? store.close()
      throw error
    }
    let failure = store.failure
    try store.close()
    return status == .done ? failure ?? .done : status
  }
}
