import Foundation
import TestSupport
import Testing

/// Managers that have the server go into the background and read its number from a file.
extension ManagerTests {
  // MARK: EVE

  private struct Eve {
    let host: ManagedHost
    let uuid = UUID().uuidString.lowercased()
    let key: KernelKey
    var state: String { host.path("persist/swtpm/tpm-state-\(uuid)") }
    var socket: String { host.path("run/swtpm/\(uuid).ctrl.sock") }
    var pidFile: String { host.path("run/swtpm/\(uuid).pid") }
    var binaryKey: String { host.path("run/swtpm/\(uuid).binkey") }

    init(_ options: [String]) throws {
      key = KernelKey("vm-\(uuid)")
      host = try ManagedHost(options)
      _ = try host.makeFolder("run/swtpm")
    }

    /// As EVE starts it: with its disk's key in a file where the host has a TPM.
    func launch(withKey bytes: [UInt8]? = nil) throws -> Child.Outcome {
      try FileManager.default.createDirectory(atPath: state, withIntermediateDirectories: true)
      var command = [
        "swtpm", "socket", "--tpm2", "--tpmstate", "dir=\(state),backup", "--ctrl",
        "type=unixio,path=\(socket),terminate", "--pid", "file=\(pidFile)", "--log",
        "level=3,truncate,file=\(state)/swtpm.log", "--daemon",
      ]
      if let bytes {
        try File.write(bytes, to: binaryKey)
        command += ["--key", "file=\(binaryKey),format=binary,mode=aes-256-cbc,remove=true"]
      }
      return try host.run(command)
    }

    /// The number in the file is that of a process, whenever the file is there.
    func identifier() throws -> pid_t {
      let text = String(decoding: try File.bytes(pidFile), as: UTF8.self)
      guard let number = pid_t(text.trimmingCharacters(in: .whitespacesAndNewlines)) else { throw TestFailure(text) }
      return number
    }

    /// INIT from a client that then hangs up, with which the server ends. EVE does that before each launch.
    func isHealthy() throws -> Bool {
      let number = try identifier()
      let answer = try PlayedMachine.initialize(socket)
      ManagedHost.waitForTheEnd(of: number)
      return answer == PlayedMachine.done
    }

    func log() -> String { String(decoding: (try? File.bytes("\(state)/swtpm.log")) ?? [], as: UTF8.self) }
  }

  /// With the key of EVE's disk, sealed to the host's TPM, which comes in a file and is removed.
  @Test func eve() throws {
    let eve = try Eve([])
    let key = [UInt8](repeating: 0x11, count: 16) + (0..<16).map { _ in UInt8.random(in: 0...255) }
    for round in 0..<3 as Range<UInt8> {
      let health = try eve.launch(withKey: key)
      try #require(health.status == 0, "\(health.text)")
      #expect(!File.exists(eve.binaryKey))
      #expect(try eve.isHealthy())
      let launched = try eve.launch(withKey: key)
      try #require(launched.status == 0, "the lock, the socket and the PID file are free again: \(launched.text)")
      let number = try eve.identifier()
      var machine: PlayedMachine? = try PlayedMachine(eve.socket)
      if round > 0 { #expect(try machine?.has(round - 1) == true) }
      try machine?.keep(round, isNew: round == 0)
      // QEMU ends; or is killed, and the connection with it; or EVE ends the server.
      switch round {
      case 0: try machine?.shutDown()
      case 1: machine = nil
      default: #expect(kill(number, SIGTERM) == 0)
      }
      ManagedHost.waitForTheEnd(of: number)
      #expect(!File.exists(eve.pidFile) && !File.exists(eve.socket))
    }
    // Another key (the host's TPM has none, or another one): the server doesn't power on, and EVE takes that for a
    // damaged state, and removes its folder. Nothing that this server does is of another kind than swtpm's here.
    let before = try File.bytes("\(eve.state)/tpm2-00.permall")
    let wrong = try eve.launch(withKey: key.map { $0 ^ 1 })
    if wrong.status == 0 { #expect(try !eve.isHealthy()) }
    #expect(try File.bytes("\(eve.state)/tpm2-00.permall") == before)
    #expect(eve.log().contains("the key that was given opens no slot of it"), "\(eve.log())")
  }

  /// Without a TPM of the host EVE passes no key, and a kernel key opens the image. While that is missing EVE's
  /// question has to wait: a refusal would have it remove the state. README's option does that.
  @Test func eveWithoutATPM() throws {
    let eve = try Eve(["--keyring-key vm-%u", "--fail-on-encrypted-drive=no"])
    eve.key.load()
    try #require(try eve.launch().status == 0)
    #expect(try eve.isHealthy())
    try #require(try eve.launch().status == 0)
    let machine = try PlayedMachine(eve.socket)
    try machine.keep(7, isNew: true)
    let number = try eve.identifier()
    try machine.shutDown()
    ManagedHost.waitForTheEnd(of: number)

    eve.key.remove()
    let before = try File.bytes("\(eve.state)/tpm2-00.permall")
    let started = try eve.launch()
    try #require(started.status == 0, "\(started.text)")
    let waiting = try eve.identifier()
    defer { kill(waiting, SIGKILL) }
    let client = try Socket(path: eve.socket)
    client.send([0, 0, 0, 2, 0, 0, 0, 0])
    #expect(!client.hasInput(within: 500))
    #expect(try File.bytes("\(eve.state)/tpm2-00.permall") == before)
    #expect(eve.log().contains(eve.key.name), "\(eve.log())")
    eve.key.load()
    #expect(client.receive() == PlayedMachine.done)
    let again = try PlayedMachine(eve.socket)
    #expect(try again.has(7))
    try again.shutDown()
    ManagedHost.waitForTheEnd(of: waiting)
  }

  // MARK: libvirt, to 5.6

  /// libvirt 5.6: the server makes a daemon of itself, and is ended by swtpm_ioctl.
  @Test func libvirtWithADaemon() throws {
    let uuid = UUID().uuidString.lowercased()
    let key = KernelKey("vm-\(uuid)")
    key.load()
    let host = try ManagedHost(["--keyring-key vm-%u"])
    let state = try host.makeFolder("lib/swtpm/\(uuid)/tpm2")
    let run = try host.makeFolder("run/swtpm")
    let (socket, pidFile) = ("\(run)/1-vm7-swtpm.sock", "\(run)/1-vm7-swtpm.pid")
    let start = {
      try? FileManager.default.removeItem(atPath: socket)
      return try host.run([
        "swtpm", "socket", "--daemon", "--ctrl", "type=unixio,path=\(socket),mode=0600", "--tpmstate",
        "dir=\(state),mode=0600", "--log", "file=\(host.path("vm7-swtpm.log"))", "--tpm2", "--pid", "file=\(pidFile)",
      ])
    }
    for round in 0..<2 as Range<UInt8> {
      let started = try start()
      try #require(started.status == 0, "\(started.text)")
      let number = try #require(pid_t(String(decoding: try File.bytes(pidFile), as: UTF8.self).dropLast()))
      // What it reads is the program that it looks for.
      #expect(kill(number, 0) == 0)
      let machine = try PlayedMachine(socket)
      if round > 0 { #expect(try machine.has(round - 1)) }
      try machine.keep(round, isNew: round == 0)
      try host.expect(["swtpm_ioctl", "--unix", socket, "-s"])
      #expect(!File.exists(pidFile) && !File.exists(socket))
    }
    // The mode is as asked for.
    let mode = try FileManager.default.attributesOfItem(atPath: "\(state)/tpm2-00.permall")[.posixPermissions] as? Int
    #expect(mode == 0o600)
  }
}
