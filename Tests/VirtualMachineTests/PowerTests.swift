import Foundation
import TestSupport
import Testing

/// Virtual machines that are switched on, reset, switched off and ended, with the TPM's state in an image.
@Suite(.enabled(if: VirtualMachine.isAvailable, VirtualMachine.unavailable)) struct PowerTests {
  /// What a guest keeps in its TPM outlives a reset and a power-off; what it measured doesn't.
  @Test(arguments: VirtualMachine.Device.allCases) func offAndOn(device: VirtualMachine.Device) throws {
    let place = try Place()
    var server = try EmulatorServer(place)
    var machine = try VirtualMachine(place.folder, tpm: server.socket, device: device)
    try machine.waitUntilUp()
    let key = try machine.store()
    #expect(try machine.register() == machine.extended())
    try machine.reset()
    #expect(try machine.register() == VirtualMachine.reset)
    #expect(try machine.read() == VirtualMachine.secret)
    #expect(machine.powerOff() == 0)
    #expect(server.wait() == 0, "QEMU shuts the server down: \(server.log)")
    #expect(try place.wasClosedCleanly())
    #expect(try Data(place.bytes()).range(of: Data(VirtualMachine.secret.utf8)) == nil)

    server = try EmulatorServer(place)
    machine = try VirtualMachine(place.folder, tpm: server.socket, device: device)
    try machine.waitUntilUp()
    #expect(try machine.read() == VirtualMachine.secret)
    #expect(try machine.publicPart() == key)
    #expect(try machine.register() == VirtualMachine.reset)
    // The key is of use: something is sealed under it and unsealed again.
    try machine.expect(
      "cd /tmp; echo it | tpm2 create -Q -C 0x81000001 -i - -u u -r r; tpm2 load -Q -C 0x81000001 -u u -r r -c c")
    #expect(try machine.expect("tpm2 unseal -c /tmp/c") == "it")
    #expect(machine.powerOff() == 0)
    #expect(server.wait() == 0)
  }

  /// A TPM 1.2: the kernel finds it, and measures into it.
  @Test func oldVersion() throws {
    let place = try Place(["--profile", "tpm1.2"])
    let server = try EmulatorServer.old(place)
    let machine = try VirtualMachine(place.folder, tpm: server.socket, device: .tis)
    try machine.waitUntilUp()
    #expect(try machine.expect("cat /sys/class/tpm/tpm0/tpm_version_major") == "1")
    let registers = try machine.expect("cat /sys/class/tpm/tpm0/device/pcrs").split(separator: "\n")
    #expect(registers.count == 24)
    let ten = registers.first { $0.hasPrefix("PCR-10") }
    #expect(ten?.hasPrefix("PCR-10:") == true && ten?.contains("00 00 00 00 00 00 00") == false, "\(registers)")
    #expect(machine.powerOff() == 0)
    #expect(server.wait() == 0)
    #expect(try place.wasClosedCleanly())
  }

  /// QEMU is killed while the guest writes: the server ends in order, and the TPM is the guest's last or next one.
  @Test func machineKilled() throws {
    let place = try Place()
    var server = try EmulatorServer(place, ["--terminate"])
    var machine = try VirtualMachine(place.folder, tpm: server.socket, device: .crb)
    try machine.waitUntilUp()
    let key = try machine.store()
    // A password that is protected against guessing is in use: from now on a start without TPM2_Shutdown before it
    // counts as a guess (TPM 2.0 Part 1, 19.8.6).
    try machine.usePassword()
    let last = try writeUntilKilled(machine) { machine.kill() }
    #expect(server.wait() == 0, "\(server.log)")
    #expect(try place.wasClosedCleanly())

    server = try EmulatorServer(place)
    machine = try VirtualMachine(place.folder, tpm: server.socket, device: .crb)
    try machine.waitUntilUp()
    #expect(last.contains(try machine.read()))
    #expect(try machine.publicPart() == key)
    // A guest that never said goodbye doesn't count as one that guesses passwords.
    #expect(try machine.lockoutCounter() == "0x0")
  }

  /// The server is killed while the guest writes: what the guest was told is written is there when both start again.
  @Test func serverKilled() throws {
    let place = try Place()
    var server = try EmulatorServer(place)
    var machine = try VirtualMachine(place.folder, tpm: server.socket, device: .tis)
    try machine.waitUntilUp()
    let key = try machine.store()
    let last = try writeUntilKilled(machine) { server.kill() }
    machine.kill()
    #expect(try !place.wasClosedCleanly())

    server = try EmulatorServer(place)
    machine = try VirtualMachine(place.folder, tpm: server.socket, device: .tis)
    try machine.waitUntilUp()
    #expect(last.contains(try machine.read()))
    #expect(try machine.publicPart() == key)
    #expect(machine.powerOff() == 0)
    #expect(server.wait() == 0)
    let check = try place.run(["vnvram", "check", place.image])
    #expect(check.status == 0, "\(check.text)")
  }

  /// Writes to the index several times, and kills within the last write. What the index may hold then: the last content
  /// that was acknowledged, or the one that was under way.
  private func writeUntilKilled(_ machine: VirtualMachine, _ kill: () -> Void) throws -> [String] {
    let contents = (0..<4).map { "write number \($0)  " }
    for content in contents.dropLast() { try machine.write(content) }
    machine.start("printf '\(contents[3])' | tpm2 nvwrite 0x1500020 -C o -i -")
    usleep(UInt32.random(in: 100_000...400_000))
    kill()
    return Array(contents.suffix(2))
  }
}
