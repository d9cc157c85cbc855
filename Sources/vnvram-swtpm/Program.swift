import Glibc
import Primitives
import ProgramIO
import VTPM

/// What the command line asks for, done.
enum Program {
  static func run(_ arguments: [String]) -> Status {
    if arguments.first == LoadStates.name { return LoadStates.run(arguments.dropFirst()) }
    // Until `--log` is known.
    var log = Log.standardError
    do {
      switch try CommandLineOptions.parse(arguments, passed: PassedSocket.ofEnvironment()) {
      case .help: try write(Help.text)
      // Tools take what stands after "version", and compare it with a version of swtpm's.
      case .version:
        try write(
          "TPM emulator version \(Capabilities.swtpmVersion), vnvram-swtpm \(CommandLineOptions.version)\n")
      case .printCapabilities(let version): try write(Capabilities.json(version) + "\n")
      case .printInfo(let version, let flags): try write(try info(version, flags) + "\n")
      case .printProfiles(let version): try write(try present(LibraryInfo.profiles(version), version) + "\n")
      case .printStates(let options):
        log = try options.log.open(standardError: 2)
        do { try write(try PrintedStates(options, log).json() + "\n") } catch {
          // All that swtpm_setup shows.
          try? write("\(error)\n")
          throw error
        }
      case .serve(var options):
        try options.server.freeStandardStreams()
        let manager = ServiceManager.ofEnvironment(log)
        let daemon = options.isDaemon ? try Daemon.start(manager) : nil
        log = try options.log.open(standardError: 2)
        try options.profile?.check(for: options.server.version)
        return try MonitorProcess(options, daemon, manager, log).run()
      }
      return .done
    } catch let error as any StatusError {
      log.line("\(error)")
      return error.status
    } catch {
      log.line("\(error)")
      return .failed
    }
  }

  private static func write(_ text: String) throws(FileError) {
    try OutputFile(descriptor: 1, name: "standard output").write(text)
  }

  private static func info(_ version: TPMVersion, _ flags: UInt32) throws(TPMError) -> String {
    try present(LibraryInfo.json(version, flags: flags), version)
  }

  private static func present(_ text: String?, _ version: TPMVersion) throws(TPMError) -> String {
    guard let text else { throw .usage("this libtpms was built without TPM \(version == .tpm2 ? "2.0" : "1.2")") }
    return text
  }
}
