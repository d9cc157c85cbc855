import Foundation
import TestSupport
import Testing

/// A directory of one test's own, removed with it.
final class TestDirectory {
  let path: String

  init() throws {
    let base = FileManager.default.temporaryDirectory.path
    // Short: a Unix socket's path has at most 107 bytes.
    path = "\(base)/vtpm-\(UUID().uuidString.prefix(13))"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  func write(_ bytes: [UInt8], _ name: String) throws {
    try Data(bytes).write(to: URL(fileURLWithPath: "\(path)/\(name)"))
  }

  func write(_ text: String, _ name: String) throws { try write(Array(text.utf8), name) }

  func read(_ name: String) -> [UInt8]? {
    FileManager.default.contents(atPath: "\(path)/\(name)").map { Array($0) }
  }

  func remove(_ name: String) { try? FileManager.default.removeItem(atPath: "\(path)/\(name)") }

  var names: [String] { ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).sorted() }
}

/// VTPMTestServer as a child process, with its state, sockets and log in a `TestDirectory`.
final class TestServer {
  enum Transport: CaseIterable {
    case unix
    case tcp
  }

  let directory: TestDirectory
  let transport: Transport
  let port: UInt16
  private let process: Child

  var statePath: String { "\(directory.path)/state" }
  var dataPath: String { "\(directory.path)/tpm" }
  /// Where tpm2-tools look for it: the data socket's path and ".ctrl".
  var controlPath: String { "\(directory.path)/tpm.ctrl" }
  var workPath: String { "\(directory.path)/work" }
  var log: String { directory.read("log").map { String(decoding: $0, as: UTF8.self) } ?? "" }

  /// Starts it and waits until it listens, unless it ended before.
  init(
    _ directory: TestDirectory, _ arguments: [String] = [], over transport: Transport = .unix,
    channels: [Socket.Channel] = [.data, .control], state: String? = nil
  ) throws {
    self.directory = directory
    self.transport = transport
    for name in ["state", "work"] {
      try FileManager.default.createDirectory(
        atPath: "\(directory.path)/\(name)", withIntermediateDirectories: true)
    }
    port = transport == .tcp ? try Socket.freePorts() : 0
    var command = [Tool.builtProduct("VTPMTestServer"), "--state", state ?? "\(directory.path)/state"] + arguments
    switch transport {
    case .unix:
      if channels.contains(.data) { command += ["--server", "type=unixio,path=\(directory.path)/tpm"] }
      command += ["--ctrl", "type=unixio,path=\(directory.path)/tpm.ctrl"]
    case .tcp: command += ["--server", "type=tcp,port=\(port)", "--ctrl", "type=tcp,port=\(port + 1)"]
    }
    process = try Child(command, in: "\(directory.path)/work", merged: true, output: "\(directory.path)/log")
    while process.isRunning && (try? Socket(self, .control)) == nil { usleep(2000) }
  }

  deinit { kill() }

  var isRunning: Bool { process.isRunning }
  var identifier: Int32 { process.identifier }

  func signal(_ number: Int32) { process.signal(number) }

  func kill() {
    signal(SIGKILL)
    _ = wait()
  }

  /// The exit status; minus the signal's number where one ended it.
  @discardableResult
  func wait() -> Int32 { process.wait() }
}

/// Debian's swtpm as a child process, with its state and sockets in a `TestDirectory`.
final class Swtpm {
  let directory: TestDirectory
  private let process: Child

  var dataPath: String { "\(directory.path)/swtpm" }
  var controlPath: String { "\(directory.path)/swtpm.ctrl" }
  var statePath: String { "\(directory.path)/swtpm-state" }

  init(_ directory: TestDirectory, _ arguments: [String] = ["--tpm2"]) throws {
    self.directory = directory
    let (state, data, control) = (
      "\(directory.path)/swtpm-state", "\(directory.path)/swtpm", "\(directory.path)/swtpm.ctrl"
    )
    try FileManager.default.createDirectory(atPath: state, withIntermediateDirectories: true)
    let command = ["swtpm", "socket", "--tpmstate", "dir=\(state)", "--ctrl", "type=unixio,path=\(control)"]
    process = try Child(
      command + ["--server", "type=unixio,path=\(data)"] + arguments, in: directory.path, merged: true,
      output: "\(directory.path)/swtpm-log")
    while process.isRunning, (try? Socket(path: control)) == nil { usleep(3000) }
  }

  deinit {
    process.signal(SIGTERM)
    _ = process.wait()
  }

  /// Runs swtpm_ioctl against it.
  @discardableResult
  func control(_ arguments: String...) throws -> Tool.Result {
    try Tool.run(["swtpm_ioctl", "--unix", controlPath] + arguments, in: directory.path)
  }

  /// Runs one of tpm2-tools against it.
  @discardableResult
  func tpm2(_ arguments: String...) throws -> Tool.Result {
    try Tool.run(arguments, in: directory.path, environment: ["TPM2TOOLS_TCTI": "swtpm:path=\(dataPath)"])
  }
}
