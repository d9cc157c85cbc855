import Foundation
import TestSupport
import Testing

/// libvirt after 5.6, and what runs machines through it: KubeVirt and Nova. Real machines under libvirt 9.0 are in
/// `LibvirtTests` and `LibvirtKeyTests`.
extension ManagerTests {
  private struct Libvirt {
    let host: ManagedHost
    let uuid = UUID().uuidString.lowercased()
    let key: KernelKey
    let run: String

    init(_ options: [String] = ["--keyring-key vm-%u"]) throws {
      host = try ManagedHost(options)
      key = KernelKey("vm-\(uuid)")
      key.load()
      run = try host.makeFolder("run")
    }

    func folder(_ side: String) -> String { host.path("\(side)/swtpm/\(uuid)/tpm2") }
    func socket(_ side: String) -> String { "\(run)/\(side)-swtpm.sock" }

    /// The command line of 9.0 on the state of `side`, with what is behind `--terminate`; 12.0 says `,lock` to a
    /// program that has `tpmstate-opt-lock`.
    func command(_ side: String, lock: Bool = false, _ more: [String] = ["--tpm2"]) -> [String] {
      [
        "swtpm", "socket", "--ctrl", "type=unixio,path=\(socket(side)),mode=0600", "--tpmstate",
        "dir=\(folder(side)),mode=0600" + (lock ? ",lock" : ""), "--log", "file=\(run)/\(side)-swtpm.log",
        "--terminate",
      ] + more
    }

    func makeFolder(_ side: String) throws { _ = try host.makeFolder("\(side)/swtpm/\(uuid)/tpm2") }

    /// The three states by swtpm_ioctl, in QEMU's order, from a server to another one.
    func migrate(from source: String, to target: String) throws {
      for type in ["permanent", "volatile", "savestate"] {
        try host.expect(["swtpm_ioctl", "--unix", socket(source), "--save", type, host.path("blob.\(type)")])
      }
      for type in ["permanent", "volatile"] {
        try host.expect(["swtpm_ioctl", "--unix", socket(target), "--load", type, host.path("blob.\(type)")])
      }
    }
  }

  /// 12.0: the lock is asked for, and the machine's folder has what a start needs. The server ends with QEMU.
  @Test func libvirt() throws {
    let libvirt = try Libvirt()
    try libvirt.makeFolder("a")
    let (host, socket, state) = (libvirt.host, libvirt.socket("a"), libvirt.folder("a"))
    #expect(try host.expect(["swtpm", "socket", "--print-capabilities"]).contains("\"tpmstate-opt-lock\""))
    let start = {
      // A left-over server is ended first, where there is a socket; then the socket goes.
      if File.exists(socket) { try host.run(["swtpm_ioctl", "--unix", socket, "-s"]) }
      try? FileManager.default.removeItem(atPath: socket)
      return try host.start(libvirt.command("a", lock: true))
    }
    try live(host, socket, state: state, start)
    try killed(host, socket, start)
    // QEMU is killed: the server ends by itself.
    let server = try start()
    var machine: PlayedMachine? = try PlayedMachine(socket, while: server)
    try machine?.keep(5)
    machine = nil
    #expect(server.wait() == 0, "\(server.text)")
    // A clone made with the folder has a UUID of its own, and no key; it can be had only by giving it that key.
    let other = UUID().uuidString.lowercased()
    _ = try host.makeFolder("b/swtpm/\(other)")
    try host.copy(state, to: host.path("b/swtpm/\(other)/tpm2"))
    let clone = try host.start(
      libvirt.command("a").map { $0.replacingOccurrences(of: state, with: host.path("b/swtpm/\(other)/tpm2")) })
    #expect(try PlayedMachine.initialize(socket, while: clone) != PlayedMachine.done, "\(clone.text)")
    clone.signal(SIGTERM)
    #expect(clone.wait() == 14 && clone.text.contains("has no slot for key \"vm-\(other)\""), "\(clone.text)")
  }

  /// On storage that two hosts share: the target starts while the source has the image.
  @Test func libvirtMigratesOnSharedStorage() throws {
    let libvirt = try Libvirt()
    try libvirt.makeFolder("shared")
    let host = libvirt.host
    let migration = { (more: String) in ["--tpm2", "--migration", "release-lock-outgoing\(more)"] }
    let source = try host.start(libvirt.command("shared", migration("")))
    let machine = try PlayedMachine(libvirt.socket("shared"), while: source)
    try machine.keep(1, isNew: true)
    let targetSocket = "\(libvirt.run)/target-swtpm.sock"
    let target = try host.start(
      libvirt.command("shared", migration(",incoming")).map {
        $0.replacingOccurrences(of: "shared-swtpm", with: "target-swtpm")
      })
    for _ in 0..<10_000 where target.isRunning && !File.exists(targetSocket) { usleep(2000) }
    for type in ["permanent", "volatile", "savestate"] {
      try host.expect(["swtpm_ioctl", "--unix", libvirt.socket("shared"), "--save", type, host.path("blob.\(type)")])
    }
    let control = try Socket(path: targetSocket)
    for (type, name) in [(1, "permanent"), (2, "volatile")] as [(UInt8, String)] {
      let blob = try File.bytes(host.path("blob.\(name)"))
      let size = (0..<4).map { UInt8(truncatingIfNeeded: blob.count >> (24 - 8 * $0)) }
      control.send([0, 0, 0, 0xD, 0, 0, 0, 0, 0, 0, 0, type] + size + blob)
      #expect(control.receive() == PlayedMachine.done, "\(target.text)")
    }
    #expect(control.ask([0, 0, 0, 2, 0, 0, 0, 0]) == PlayedMachine.done, "\(target.text)")
    try machine.shutDown()
    #expect(source.wait() == 0, "\(source.text)")
    let arrived = try PlayedMachine(targetSocket, while: target)
    #expect(try arrived.has(1))
    try arrived.shutDown()
    #expect(target.wait() == 0, "\(target.text)")
  }

  /// KubeVirt: libvirt in a pod, which migrates into an empty volume. There libvirt has swtpm_setup make something to
  /// replace, as it does on any storage that hosts don't share.
  @Test(.enabled(if: File.exists("/usr/bin/swtpm_setup"))) func kubeVirt() throws {
    let libvirt = try Libvirt()
    let host = libvirt.host
    _ = try host.configureSetup()
    for side in ["source", "target"] { try libvirt.makeFolder(side) }
    try host.expect([
      "swtpm_setup", "--tpm2", "--tpm-state", libvirt.folder("source"), "--vmid", "vm7:\(libvirt.uuid)", "--logfile",
      host.path("setup.log"), "--createek", "--create-ek-cert", "--create-platform-cert", "--lock-nvram",
      "--not-overwrite",
    ])
    let source = try host.start(libvirt.command("source"))
    let machine = try PlayedMachine(libvirt.socket("source"), while: source)
    try machine.keep(1, isNew: true)
    try host.expect([
      "swtpm_setup", "--tpm2", "--tpm-state", libvirt.folder("target"), "--logfile", host.path("setup.log"),
      "--overwrite",
    ])
    let target = try host.start(libvirt.command("target"))
    for _ in 0..<10_000 where target.isRunning && !File.exists(libvirt.socket("target")) { usleep(2000) }
    let held = try Socket(path: libvirt.socket("target"))
    try libvirt.migrate(from: "source", to: "target")
    #expect(held.ask([0, 0, 0, 2, 0, 0, 0, 0]) == PlayedMachine.done, "\(target.text)")
    try machine.shutDown()
    #expect(source.wait() == 0, "\(source.text)")
    let arrived = try PlayedMachine(libvirt.socket("target"), while: target)
    #expect(try arrived.has(1))
    try arrived.shutDown()
    #expect(target.wait() == 0, "\(target.text)")
    // The source's volume is deleted. What is there now starts.
    let again = try host.start(libvirt.command("target"))
    let later = try PlayedMachine(libvirt.socket("target"), while: again)
    #expect(try later.has(1))
    try later.shutDown()
    #expect(again.wait() == 0, "\(again.text)")
  }

  /// OpenStack Nova: a passphrase of 512 characters from its key manager, as a secret of libvirt's, on two descriptors;
  /// a resize or cold migration moves the folder to another host, and its owner changes twice.
  @Test func nova() throws {
    let libvirt = try Libvirt([])
    libvirt.key.remove()
    let host = libvirt.host
    try libvirt.makeFolder("a")
    let secret = Data((0..<384).map { _ in UInt8.random(in: 0...255) }).base64EncodedString()
    #expect(secret.utf8.count == 512)
    try host.place.write(Array(secret.utf8), "secret")
    try host.place.write(Array(secret.reversed().map(\.asciiValue).compactMap { $0 }), "another")
    let start = { (side: String, file: String) in
      let command = libvirt.command(
        side, ["--tpm2", "--key", "pwdfd=5,mode=aes-256-cbc", "--migration-key", "pwdfd=6,mode=aes-256-cbc"])
      let script = "exec 5< <(cat \(host.path(file))) 6< <(cat \(host.path(file))); exec \"$@\""
      return try host.start(["bash", "-c", script, "bash"] + command)
    }
    try live(host, libvirt.socket("a"), state: libvirt.folder("a")) { try start("a", "secret") }
    // To the instance's folder, to the other host's, and to where libvirt looks.
    _ = try host.makeFolder("b/swtpm")
    try host.expect(["mv", host.path("a/swtpm/\(libvirt.uuid)"), host.path("resize")])
    if geteuid() == 0 { try host.expect(["chown", "-R", "65534:65534", host.path("resize")]) }
    try host.expect(["cp", "-r", host.path("resize"), host.path("b/swtpm/\(libvirt.uuid)")])
    let moved = try start("b", "secret")
    let machine = try PlayedMachine(libvirt.socket("b"), while: moved)
    #expect(try machine.has(2))
    try machine.shutDown()
    #expect(moved.wait() == 0, "\(moved.text)")
    // With another secret there is no TPM.
    let refused = try start("b", "another")
    #expect(try PlayedMachine.initialize(libvirt.socket("b"), while: refused) != PlayedMachine.done)
    refused.signal(SIGTERM)
    #expect(refused.wait() == 4, "\(refused.text)")
  }
}
