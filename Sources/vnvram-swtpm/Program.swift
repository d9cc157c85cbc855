import Glibc
import Primitives
import ProgramIO
import VTPM

/// What the command line asks for, done.
enum Program {
  static func run(_ arguments: [String]) -> Status {
    if arguments.first == Worker.name { return Worker.run() }
    if arguments.first == LoadStates.name { return LoadStates.run(arguments.dropFirst()) }
    // Until `--log` is known.
    var log = Log.standardError
    do {
      switch try CommandLineOptions.parse(arguments, passed: PassedSocket.ofEnvironment()) {
      case .help: try write(Help.text)
      case .version: try write("TPM emulator vnvram-swtpm version \(CommandLineOptions.version)\n")
      case .printCapabilities(let version): try write(Capabilities.json(version) + "\n")
      case .printInfo(let version, let flags): try write(try info(version, flags) + "\n")
      case .printStates(let options):
        log = try options.log.open(standardError: 2)
        try write(try PrintedStates(options, log).json() + "\n")
      case .serve(var options):
        try options.server.freeStandardStreams()
        let manager = ServiceManager.ofEnvironment(log)
        let daemon = options.isDaemon ? try Daemon.start(manager) : nil
        log = try options.log.open(standardError: 2)
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
    guard let text = LibraryInfo.json(version, flags: flags) else {
      throw .usage("this libtpms was built without TPM \(version == .tpm2 ? "2.0" : "1.2")")
    }
    return text
  }
}
