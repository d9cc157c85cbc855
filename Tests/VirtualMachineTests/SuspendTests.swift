import Foundation
import TestSupport
import Testing

/// Machines that are suspended, and go on: to memory by the guest itself, and into a snapshot and back by QEMU.
@Suite(.enabled(if: VirtualMachine.isAvailable, VirtualMachine.unavailable)) struct SuspendTests {
  private static let measured = String(repeating: "ab", count: 32)

  /// Suspended to memory: the guest sends TPM2_Shutdown(STATE), QEMU resets the TPM when it wakes up (STOP and INIT),
  /// and the firmware sends TPM2_Startup(STATE). What was measured is still there, and so is what the guest had saved
  /// of a loaded key, which a TPM that began anew would refuse.
  @Test(arguments: VirtualMachine.Device.allCases) func toMemory(device: VirtualMachine.Device) throws {
    let place = try Place()
    let server = try EmulatorServer(place)
    let machine = try VirtualMachine(place.folder, tpm: server.socket, device: device)
    try machine.waitUntilUp()
    let key = try machine.store()
    try machine.expect("tpm2 pcrextend 8:sha256=\(Self.measured)")
    let registers = try machine.expect("tpm2 pcrread sha256:0,8,10 | grep 0x")
    try machine.expect("tpm2 createprimary -Q -C o -G ecc -c /tmp/loaded")
    // A password that is protected against guessing is in use (see PowerTests).
    try machine.usePassword()

    machine.start("echo mem >/sys/power/state")
    try machine.waitUntilSuspended()
    try machine.qmp().run("system_wakeup")
    #expect(try machine.answer("waking up").status == 0)
    #expect(try machine.expect("tpm2 pcrread sha256:0,8,10 | grep 0x") == registers)
    #expect(try machine.read() == VirtualMachine.secret)
    #expect(try machine.publicPart() == key)
    try machine.expect("tpm2 readpublic -Q -c /tmp/loaded")
    #expect(try machine.lockoutCounter() == "0x0")
    // Of the machine's power management nothing else works once it was asleep.
    #expect(try machine.quit() == 0)
    #expect(server.wait() == 0)
    #expect(try place.wasClosedCleanly())
  }

  /// A snapshot holds the TPM as well, what is loaded and measured included; going back to it takes the TPM along, and
  /// the image has what the guest sees then.
  @Test func snapshot() throws {
    let place = try Place()
    var server = try EmulatorServer(place)
    var machine = try VirtualMachine(place.folder, tpm: server.socket, device: .crb)
    try machine.addDisk(place.path("disk.qcow2"))
    try machine.waitUntilUp()
    let key = try machine.store()
    let measured = try machine.register()
    try machine.expect("tpm2 createprimary -Q -C o -G ecc -c /tmp/loaded")
    try machine.snapshot("snapshot-save")

    try machine.write("of the other way")
    try machine.expect("tpm2 pcrextend 16:sha256=\(Self.measured) && tpm2 evictcontrol -Q -C o -c 0x81000001")
    #expect(try machine.register() != measured)
    try machine.snapshot("snapshot-load")
    #expect(try machine.read() == VirtualMachine.secret)
    #expect(try machine.publicPart() == key)
    #expect(try machine.register() == measured)
    try machine.expect("tpm2 readpublic -Q -c /tmp/loaded")

    // As if the power went: the image is what the snapshot was.
    machine.kill()
    server.kill()
    server = try EmulatorServer(place)
    machine = try VirtualMachine(place.folder, tpm: server.socket, device: .crb)
    try machine.waitUntilUp()
    #expect(try machine.read() == VirtualMachine.secret)
    #expect(try machine.publicPart() == key)
  }
}

extension VirtualMachine {
  /// A disk of QEMU's own format, which snapshots can be put into. No device of the machine's is on it.
  fileprivate func addDisk(_ path: String) throws {
    try TestFailure.unless(FileManager.default.createFile(atPath: path, contents: nil), path)
    try qmp().run("blockdev-add", ["driver": "file", "filename": path, "node-name": "file"])
    try job("blockdev-create", ["options": ["driver": "qcow2", "file": "file", "size": 1 << 20] as [String: Any]])
    try qmp().run("blockdev-add", ["driver": "qcow2", "file": "file", "node-name": "disk"])
  }

  /// Saves the machine into the disk, or loads it from there. It runs afterwards as before.
  fileprivate func snapshot(_ command: String) throws {
    try job(command, ["tag": "one", "vmstate": "disk", "devices": ["disk"]])
  }

  private func job(_ command: String, _ arguments: [String: Any]) throws {
    try qmp().run(command, arguments.merging(["job-id": command]) { $1 })
    for _ in 0..<6000 {
      let jobs = try qmp().list("query-jobs")
      guard let job = jobs.first(where: { $0["id"] as? String == command }) else { break }
      if job["status"] as? String == "concluded" {
        try TestFailure.unless(job["error"] == nil, "\(job)")
        try qmp().run("job-dismiss", ["id": command])
        return
      }
      usleep(10_000)
    }
    throw failure("\(command) doesn't end")
  }

  fileprivate func waitUntilSuspended() throws {
    for _ in 0..<3000 {
      if try qmp().run("query-status")["status"] as? String == "suspended" { return }
      usleep(10_000)
    }
    throw failure("the guest is not suspended")
  }
}
