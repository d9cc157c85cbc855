import Foundation
import TestSupport
import Testing

/// The command lines of managers of virtual machines, each as its public source has it (Documentation/managers.md names
/// the version), played with paths of the test's own; and what the manager then does. QEMU 7.2 and libvirt 9.0
/// themselves are in Tests/VirtualMachineTests.
@Suite struct ManagerTests {
  /// QEMU's own document: the socket beside the state, one log level.
  @Test func qemu() throws {
    let key = KernelKey()
    key.load()
    let host = try ManagedHost(["--keyring-key \(key.name)"])
    let state = try host.makeFolder("mytpm1")
    let socket = "\(state)/swtpm-sock"
    let command = { (state: String) in
      [
        "swtpm", "socket", "--tpmstate", "dir=\(state)", "--ctrl", "type=unixio,path=\(state)/swtpm-sock", "--log",
        "level=20", "--tpm2",
      ]
    }
    try live(host, socket, state: state) { try host.start(command(state)) }
    try killed(host, socket) { try host.start(command(state)) }
    try keyMissing(host, key, socket, state: state) { try host.start(command(state)) }
    // A copy of the folder is the same TPM, under the same key.
    try host.copy(state, to: host.path("mytpm2"))
    let copied = try host.start(command(host.path("mytpm2")))
    let clone = try PlayedMachine(host.path("mytpm2/swtpm-sock"), while: copied)
    #expect(try clone.has(4))
    try clone.shutDown()
    #expect(copied.wait() == 0)
  }

  /// The socket is in a folder of GNS3's own, and looked for right after the start; the machine's UUID is in the path,
  /// behind its project's. It asks for the version first.
  @Test func gns3() throws {
    let (project, node) = (UUID().uuidString.lowercased(), UUID().uuidString.lowercased())
    let key = KernelKey("vm-\(node)")
    key.load()
    let host = try ManagedHost(["--keyring-key vm-%u"])
    let version = try host.expect(["swtpm", "--version"])
    let number = try #require(version.firstMatch(of: /version\s+([\d.]+)/)?.1)
    #expect(number.compare("0.8.0", options: .numeric) != .orderedAscending, "\(version)")
    let working = try host.makeFolder("projects/\(project)/project-files/qemu/\(node)")
    let state = try host.makeFolder("projects/\(project)/project-files/qemu/\(node)/tpm")
    let socket = "\(try host.makeFolder("gns3"))/swtpm.sock"
    let command = [
      "swtpm", "socket", "--tpm2", "--tpmstate", "dir=\(state)", "--ctrl", "type=unixio,path=\(socket),terminate",
    ]
    let start = { try host.start(command, in: working) }
    try live(host, socket, state: state, start)
    // It ends the server by SIGTERM, where QEMU didn't; with `terminate` the server ends when QEMU is killed.
    var server = try start()
    var machine: PlayedMachine? = try PlayedMachine(socket, while: server)
    try machine?.keep(3)
    server.signal(SIGTERM)
    #expect(server.wait() == 0, "\(server.text)")
    server = try start()
    machine = try PlayedMachine(socket, while: server)
    #expect(try machine?.has(3) == true)
    machine = nil
    #expect(server.wait() == 0, "\(server.text)")
    try keyMissing(host, key, socket, state: state, start)
    // A duplicate of the node has a UUID of its own, and so no key.
    let other = try host.makeFolder("projects/\(project)/project-files/qemu/\(UUID().uuidString.lowercased())")
    try host.copy(state, to: "\(other)/tpm")
    let duplicate = try host.start(command.map { $0.replacingOccurrences(of: state, with: "\(other)/tpm") })
    #expect(try PlayedMachine.initialize(socket, while: duplicate) != PlayedMachine.done)
    duplicate.signal(SIGTERM)
    #expect(duplicate.wait() == 14 && duplicate.text.contains("has no slot for key"), "\(duplicate.text)")
  }

  /// It powers the TPM on by `--flags startup-clear`, asks in an order of its own, and neither tells the server to end
  /// nor has it end with the connection: the next machine connects to the same server.
  @Test func cloudHypervisor() throws {
    let key = KernelKey()
    key.load()
    let host = try ManagedHost(["--keyring-key \(key.name)"])
    // The state's folder lies beside the socket, as in cloud-hypervisor's document.
    let state = try host.makeFolder("run/swtpm")
    let socket = host.path("run/swtpm.socket")
    let command = [
      "swtpm", "socket", "--tpmstate", "dir=\(state)", "--ctrl", "type=unixio,path=\(socket)", "--flags",
      "startup-clear", "--tpm2",
    ]
    var server = try host.start(command)
    var machine: PlayedMachine? = try PlayedMachine(socket, .cloudHypervisor, while: server)
    try machine?.keep(1, isNew: true)
    // A reboot: the device is made anew.
    machine = nil
    machine = try PlayedMachine(socket, .cloudHypervisor, while: server)
    #expect(try machine?.has(1) == true)
    try machine?.keep(2)
    machine = nil
    #expect(server.isRunning)
    try host.expect(["swtpm_ioctl", "--unix", socket, "-s"])
    #expect(server.wait() == 0, "\(server.text)")
    // Without its key the server powers nothing on: it ends, and there is no socket to connect to.
    key.remove()
    server = try host.start(command)
    #expect(server.wait() == 3 && !File.exists(socket), "\(server.text)")
    key.load()
    server = try host.start(command)
    machine = try PlayedMachine(socket, .cloudHypervisor, while: server)
    #expect(try machine?.has(2) == true)
    server.signal(SIGTERM)
    #expect(server.wait() == 0, "\(server.text)")
  }

  /// A virtual machine of Incus: started in the state's folder, with the socket in it by a relative path, and ended by
  /// SIGKILL.
  @Test func incusVirtualMachine() throws {
    let name = "tpm-\(UUID().uuidString.prefix(8).lowercased())"
    let key = KernelKey("tpm.\(name)")
    key.load()
    let host = try ManagedHost(["--keyring-key %n"])
    let state = try host.makeFolder("virtual-machines/vm1/tpm.\(name)")
    let socket = "\(state)/swtpm-\(name).sock"
    let start = {
      // "Delete any leftover socket."
      try? FileManager.default.removeItem(atPath: socket)
      return try host.start(
        ["swtpm", "socket", "--tpm2", "--tpmstate", "dir=\(state)", "--ctrl", "type=unixio,path=swtpm-\(name).sock"],
        in: state)
    }
    try live(host, socket, state: state, start)
    try killed(host, socket, start)
    try keyMissing(host, key, socket, state: state, start)
    // A copied instance whose device has the same name has the same key: it is the same TPM once more.
    let copy = try host.makeFolder("virtual-machines/vm2") + "/tpm.\(name)"
    try host.copy(state, to: copy)
    try? FileManager.default.removeItem(atPath: "\(copy)/swtpm-\(name).sock")
    let server = try host.start(
      ["swtpm", "socket", "--tpm2", "--tpmstate", "dir=\(copy)", "--ctrl", "type=unixio,path=swtpm-\(name).sock"],
      in: copy)
    let machine = try PlayedMachine("\(copy)/swtpm-\(name).sock", while: server)
    #expect(try machine.has(4))
    server.kill()
    _ = server.wait()
  }

  // MARK: What all of them do

  /// A first start, which makes the image; a reboot; the machine's end, and with it the server's; a second start.
  func live(_ host: ManagedHost, _ socket: String, state: String, _ start: () throws -> Child) throws {
    #expect(try host.names(state) == [], "nothing is there yet")
    var server = try start()
    var machine = try PlayedMachine(socket, while: server)
    #expect(File.exists("\(state)/tpm2-00.permall"), "\(server.text)")
    try machine.keep(1, isNew: true)
    try machine.reboot()
    #expect(try machine.has(1))
    try machine.shutDown()
    #expect(server.wait() == 0, "\(server.text)")
    #expect(!File.exists(socket))
    server = try start()
    machine = try PlayedMachine(socket, while: server)
    #expect(try machine.has(1))
    try machine.keep(2)
    try machine.shutDown()
    #expect(server.wait() == 0, "\(server.text)")
  }

  /// The server is killed, as at the end of its manager's patience or with the host; what was acknowledged is there,
  /// and the socket that was left is no obstacle.
  func killed(_ host: ManagedHost, _ socket: String, _ start: () throws -> Child) throws {
    var server = try start()
    var machine = try PlayedMachine(socket, while: server)
    try machine.keep(3)
    server.kill()
    #expect(server.wait() == -SIGKILL)
    // The TPM's own process ends with it, and with that what both held.
    for _ in 0..<10_000 where (try? Socket(path: socket)) != nil { usleep(2000) }
    server = try start()
    machine = try PlayedMachine(socket, while: server)
    #expect(try machine.has(3))
    try machine.shutDown()
    #expect(server.wait() == 0, "\(server.text)")
  }

  /// After the host has restarted there is no key: INIT is refused, the log names it, nothing changes; with the key all
  /// is as it was, on the same server.
  func keyMissing(
    _ host: ManagedHost, _ key: KernelKey, _ socket: String, state: String, _ start: () throws -> Child
  ) throws {
    key.remove()
    let before = try File.bytes("\(state)/tpm2-00.permall")
    var server = try start()
    // What QEMU prints for it: "key could not be found".
    #expect(try PlayedMachine.initialize(socket, while: server) == [0, 0, 0, 0xD], "\(server.text)")
    server.signal(SIGTERM)
    #expect(server.wait() == 3, "\(server.text)")
    #expect(server.text.contains("key \"\(key.name)\" is missing"), "\(server.text)")
    #expect(try File.bytes("\(state)/tpm2-00.permall") == before)
    key.load()
    server = try start()
    let machine = try PlayedMachine(socket, while: server)
    try machine.keep(4)
    try machine.shutDown()
    #expect(server.wait() == 0, "\(server.text)")
  }
}
