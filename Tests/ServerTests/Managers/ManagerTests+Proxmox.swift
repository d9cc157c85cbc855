import Foundation
import TestSupport
import Testing

/// Proxmox VE: the state in a volume of 4 MiB, a file or a block device, that is blank at first; swtpm_setup runs
/// before each start.
extension ManagerTests {
  private struct Proxmox {
    let host: ManagedHost
    /// Of a volume of its own, so that the key's name is, too.
    let volume = "vm-\(Int.random(in: 1_000_000...9_999_999))-disk-1"
    let key: KernelKey
    let configuration: String
    var socket: String { host.path("run/100.swtpm") }
    var pidFile: String { host.path("run/100.swtpm.pid") }

    init() throws {
      key = KernelKey(volume)
      key.load()
      host = try ManagedHost(["--keyring-key %n", "--make-on-first-use"])
      configuration = try host.configureSetup()
      _ = try host.makeFolder("run")
    }

    /// 4 MiB of zeros, as the storage makes it.
    func makeVolume(_ folder: String) throws -> String {
      let path = "\(try host.makeFolder(folder))/\(volume)"
      try File.write([UInt8](repeating: 0, count: 4 << 20), to: path)
      return path
    }

    func setUp(_ state: String) throws -> Child.Outcome {
      try host.run([
        "swtpm_setup", "--tpmstate", "file://\(state)", "--createek", "--create-ek-cert", "--create-platform-cert",
        "--lock-nvram", "--config", configuration, "--runas", "0", "--not-overwrite", "--tpm2", "--ecc",
      ])
    }

    /// The daemon, ready when its file is there.
    func start(_ state: String) throws -> Child.Outcome {
      try host.run([
        "swtpm", "socket", "--tpmstate", "backend-uri=file://\(state),mode=0600", "--ctrl",
        "type=unixio,path=\(socket),mode=0600", "--pid", "file=\(pidFile)", "--terminate", "--daemon", "--log",
        "file=\(host.path("run/100-swtpm.log")),level=1,prefix=[id=1764517000] ", "--tpm2",
      ])
    }

    func identifier() throws -> pid_t {
      let text = String(decoding: try File.bytes(pidFile), as: UTF8.self)
      guard let number = text.firstMatch(of: /(\d+)/).flatMap({ pid_t($0.1) }) else { throw TestFailure(text) }
      return number
    }

    /// Both steps of a start, and a machine.
    func startMachine(_ state: String) throws -> (PlayedMachine, pid_t) {
      let set = try setUp(state)
      try TestFailure.unless(set.status == 0, set.text)
      let started = try start(state)
      try TestFailure.unless(started.status == 0, started.text)
      return (try PlayedMachine(socket), try identifier())
    }
  }

  /// `--runas 0` is for root.
  @Test(.enabled(if: geteuid() == 0 && File.exists("/usr/bin/swtpm_setup")), arguments: ["file", "device"])
  func proxmox(kind: String) throws {
    let proxmox = try Proxmox()
    let volume = try proxmox.makeVolume("images/100")
    var state = volume
    var device: String?
    defer { if let device { _ = try? proxmox.host.run(["losetup", "--detach", device]) } }
    if kind == "device" {
      let attached = try proxmox.host.run(["losetup", "--find", "--show", volume])
      guard attached.status == 0 else { return }
      device = String(attached.text.dropLast())
      // By a name that says whose it is, as udev makes it.
      state = "\(try proxmox.host.makeFolder("dev/pve"))/\(proxmox.volume)"
      try FileManager.default.createSymbolicLink(atPath: state, withDestinationPath: device ?? "")
    }
    for round in 0..<3 as Range<UInt8> {
      let (machine, number) = try proxmox.startMachine(state)
      if round > 0 { #expect(try machine.has(round - 1)) }
      try machine.keep(round, isNew: round == 0)
      try machine.reboot()
      #expect(try machine.has(round))
      // A live migration's target on this host: the same command line, without `--migration` and without swtpm_setup.
      let target = try proxmox.host.run([
        "swtpm", "socket", "--tpmstate", "backend-uri=file://\(state),mode=0600", "--ctrl",
        "type=unixio,path=\(proxmox.host.path("run/target.swtpm")),mode=0600", "--terminate", "--daemon", "--tpm2",
      ])
      #expect(target.status == 9, "\(target.text)")
      #expect(try machine.has(round))
      try machine.shutDown()
      ManagedHost.waitForTheEnd(of: number)
      #expect(!File.exists(proxmox.pidFile))
    }
    #expect(try File.bytes(volume).count <= 4 << 20, "it never grows: the volume is all there is")
    // The certificates were made once.
    let again = try proxmox.setUp(state)
    #expect(again.status == 0 && again.text.contains("Not overwriting existing state"), "\(again.text)")
    // A clone's volume has another name, and so no key.
    let clone = "\(try proxmox.host.makeFolder("images/101"))/vm-101-disk-1"
    try proxmox.host.copy(volume, to: clone)
    let cloned = try proxmox.start(clone)
    if cloned.status == 0 {
      let number = try proxmox.identifier()
      #expect(try PlayedMachine.initialize(proxmox.socket) != PlayedMachine.done)
      kill(number, SIGTERM)
      ManagedHost.waitForTheEnd(of: number)
    }
    // The host has restarted, and the key isn't there: nothing is made, nothing changed.
    proxmox.key.remove()
    let before = try File.bytes(volume)
    #expect(try proxmox.setUp(state).status == 0, "a state that can't be opened is one")
    let started = try proxmox.start(state)
    if started.status == 0 {
      let number = try proxmox.identifier()
      #expect(try PlayedMachine.initialize(proxmox.socket) != PlayedMachine.done)
      kill(number, SIGTERM)
      ManagedHost.waitForTheEnd(of: number)
    }
    #expect(try File.bytes(volume) == before)
    proxmox.key.load()
    // The volume is wiped, or another blank one has its name: no new TPM in a machine's place.
    try File.write([UInt8](repeating: 0, count: 4 << 20), to: volume)
    #expect(try proxmox.setUp(state).status != 0)
    #expect(try File.bytes(volume) == [UInt8](repeating: 0, count: 4 << 20))
  }
}
