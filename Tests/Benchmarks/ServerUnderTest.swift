import Glibc

/// A TPM server with a state of its own on the benchmark's file system: ours, or Debian's swtpm with one of its
/// backends. Each runs with the confinement that it has by default.
final class ServerUnderTest {
  /// How it is called in the table.
  let name: String
  private let arguments: [String]
  private let socket: String
  private let log: String
  private var process: ChildProcess?
  private var client: TPMClient?

  private init(_ name: String, _ arguments: [String], _ directory: String, _ file: String) {
    self.name = name
    self.arguments = arguments
    socket = "\(directory)/\(file).socket"
    log = "\(directory)/\(file).log"
  }

  deinit { stop() }

  // MARK: Kinds

  /// vnvram-swtpm with an image that is made here; its key is in the session's keyring.
  static func ours(_ directory: String, programs: String, _ state: String) -> ServerUnderTest {
    let (image, log) = ("\(directory)/\(state).vnvram", "\(directory)/\(state).setup")
    let key = "bench-\(getpid())-\(state)"
    ChildProcess.run([programs + "/vnvram", "key", "generate", key, "--keyring", "session"], log: log)
    ChildProcess.run([programs + "/vnvram", "format", image, "--key", key, "--profile", "tpm2"], log: log)
    return ServerUnderTest(
      "vnvram-swtpm", [programs + "/vnvram-swtpm", "socket", "--tpm2", "--tpmstate", "backend-uri=vnvram://" + image],
      directory, state)
  }

  enum Backend: String {
    case directory
    case file
  }

  /// Debian's swtpm. A keyed one has its key in a file.
  static func swtpm(_ directory: String, _ backend: Backend, keyed: Bool, _ state: String) -> ServerUnderTest {
    let place = "\(directory)/\(state)"
    var arguments = ["swtpm", "socket", "--tpm2", "--tpmstate"]
    switch backend {
    case .directory:
      _ = unsafe mkdir(place, 0o700)
      arguments.append("dir=" + place)
    case .file: arguments.append("backend-uri=file://" + place)
    }
    if keyed {
      let key = unsafe open(place + ".key", O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
      _ = unsafe write(key, String(repeating: "5a", count: 32), 64)
      close(key)
      arguments += ["--key", "file=\(place).key,format=hex,mode=aes-256-cbc"]
    }
    return ServerUnderTest("swtpm, \(keyed ? "keyed " : "")\(backend.rawValue)", arguments, directory, state)
  }

  // MARK: Its life

  /// Starts it and waits for the first answer.
  func start() {
    // With the client it ends, too, should this program be stopped.
    let server = [
      "--server", "type=unixio,path=" + socket, "--flags", "not-need-init,startup-clear", "--terminate",
    ]
    process = ChildProcess(arguments + server, log: log)
    while client == nil {
      client = TPMClient(path: socket)
      if client == nil { usleep(50) }
    }
    run(TPMCommand.getRandom(8))
  }

  func stop() {
    client = nil
    process?.end()
    process = nil
    _ = unsafe unlink(socket)
  }

  /// Runs a command that succeeds.
  func run(_ command: [UInt8]) {
    let code = attempt(command)
    guard code == 0 else { fatalError("\(name) answered 0x\(String(code, radix: 16)), see \(log)") }
  }

  /// Runs a command; its response code.
  func attempt(_ command: [UInt8]) -> UInt32 {
    guard let client else { fatalError("\(name) wasn't started") }
    return client.run(command)
  }

  // MARK: Memory, in kilobytes

  /// Of one process all that is resident; of a monitor and its worker each its share (PSS), since what both have in
  /// common is there once.
  var resident: Int {
    guard let process else { return 0 }
    let worker = process.child
    guard worker > 0 else { return process.kilobytes("status", "VmRSS") }
    return process.kilobytes("smaps_rollup", "Pss") + ChildProcess.number(worker, "smaps_rollup", "Pss")
  }
  /// What one more of them takes, whatever else runs.
  var own: Int {
    guard let process else { return 0 }
    let worker = process.child
    let dirty = process.kilobytes("smaps_rollup", "Private_Dirty")
    return worker > 0 ? dirty + ChildProcess.number(worker, "smaps_rollup", "Private_Dirty") : dirty
  }
}
