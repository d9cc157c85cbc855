import Foundation
import TestSupport
import Testing

/// Virtual machines whose TPM's key isn't there, is a wrong one, or goes.
@Suite(.enabled(if: VirtualMachine.isAvailable, VirtualMachine.unavailable)) struct KeyTests {
  /// QEMU is held back until the key comes, and goes on by itself: no `-S`, no `cont`.
  @Test(arguments: [false, true]) func keyComesLater(isWrongAtFirst: Bool) throws {
    let place = try Seeded.place()
    place.key.remove()
    let server = try EmulatorServer(place, ["--fail-on-encrypted-drive=no"])
    let machine = try VirtualMachine(place.folder, tpm: server.socket, device: .tis)
    try server.waitUntilLogged("waits for a key: \(place.key.name)")
    if isWrongAtFirst {
      place.key.loadWrong()
      try server.waitUntilLogged("wrong")
    }
    #expect(try !machine.isUp(within: 2))
    #expect(machine.isRunning && server.isRunning)
    #expect(machine.console.isEmpty, "not even the kernel runs")
    place.key.load()
    try machine.waitUntilUp()
    #expect(try Seeded.read(machine) == Seeded.content)
    #expect(machine.powerOff() == 0)
    #expect(server.wait() == 0)
  }

  /// A machine that is given up while it is held back, as by `virsh destroy`: the server ends with it, or, without
  /// --terminate, when swtpm_ioctl asks for it. The image is as it was.
  @Test(arguments: [true, false]) func endsWhileHeldBack(terminates: Bool) throws {
    let place = try Seeded.place()
    let before = try place.bytes()
    place.key.remove()
    let server = try EmulatorServer(place, ["--fail-on-encrypted-drive=no"] + (terminates ? ["--terminate"] : []))
    let machine = try VirtualMachine(place.folder, tpm: server.socket, device: .crb)
    #expect(try !machine.isUp(within: 2))
    machine.kill()
    if !terminates {
      let shutdown = try place.run(["swtpm_ioctl", "--unix", server.socket, "-s"])
      #expect(shutdown.status == 0, "\(shutdown.text)")
    }
    #expect(server.wait() == 0, "\(server.log)")
    #expect(try place.bytes() == before)
  }

  /// Without a key that fits there is no machine, and it is said why.
  @Test(arguments: [(false, 3), (true, 4)] as [(Bool, Int32)]) func noMachineWithoutKey(isWrong: Bool, status: Int32)
    throws
  {
    let place = try Seeded.place()
    let before = try place.bytes()
    if isWrong { place.key.loadWrong() } else { place.key.remove() }
    try expectRefused(
      place, status: status, place.key.name, words: isWrong ? "decryption error" : "key could not be found")
    #expect(try place.bytes() == before)
    place.key.load()
    let server = try TestServer(place)
    #expect(try server.connect(.data).index() == [UInt8](repeating: Seeded.byte, count: TPMCommand.indexSize))
  }

  /// Bits flipped between two boots, in the header and in what the TPM stored: no machine, and never a new TPM.
  @Test(arguments: ["header", "content"]) func tamperedBetweenBoots(what: String) throws {
    let place = try Seeded.place()
    let good = try place.bytes()
    var bad = good
    // FORMAT section 2: both copies of the header, their generation; where the data sectors start.
    let offsets = what == "header" ? [144, 65536 + 144] : [Place.headerField(good, at: 104) + 700]
    for offset in offsets { bad[offset] ^= 0x10 }
    try place.write(bad)
    try expectRefused(place, status: 6, what == "header" ? "header" : "sector", words: "operation failed")
    let data = Place.headerField(good, at: 104)
    #expect(try Array(place.bytes()[data...]) == Array(bad[data...]))
  }

  /// What became of the whole file between two boots: no machine either, and no new TPM in its place.
  @Test(
    arguments: [("half", 6, "cut"), ("emptied", 8, "holds no store"), ("deleted", 11, "No such file")]
      as [(String, Int32, String)]
  )
  func imageGoneBetweenBoots(what: String, status: Int32, reason: String) throws {
    let place = try Seeded.place()
    let good = try place.bytes()
    switch what {
    case "deleted": try FileManager.default.removeItem(atPath: place.image)
    default: try place.write(what == "half" ? Array(good[..<(good.count / 2)]) : [])
    }
    if what == "deleted" {
      // Told before anybody can connect.
      let server = try EmulatorServer(place)
      #expect(server.wait() == status)
      #expect(server.log.contains(reason), "\(server.log)")
    } else {
      try expectRefused(place, status: status, reason, words: "operation failed")
    }
    #expect(File.exists(place.image) == (what != "deleted"))
    if what != "deleted" { #expect(try place.bytes().count < good.count, "it did not become whole again") }
    try place.write(good)
    let server = try TestServer(place)
    #expect(try server.connect(.data).index() == [UInt8](repeating: Seeded.byte, count: TPMCommand.indexSize))
  }

  /// The server refuses QEMU's INIT, upon which QEMU ends. Both say why, and the server's end does.
  private func expectRefused(_ place: Place, status: Int32, _ reason: String, words: String) throws {
    let server = try EmulatorServer(place)
    // It listens before it reads the image.
    try server.waitUntilLogged(reason)
    let machine = try VirtualMachine(place.folder, tpm: server.socket, device: .crb)
    #expect(machine.wait() != 0)
    #expect(machine.log.contains("tpm-emulator: TPM result for CMD_INIT"), "\(machine.log)")
    #expect(machine.log.contains(words), "\(machine.log)")
    #expect(machine.console.isEmpty)
    #expect(server.end() == status)
    #expect(server.log.contains(place.image) && server.log.contains(reason), "\(server.log)")
  }

  /// The key is revoked under a running machine: what stores something fails and says why, the rest goes on; with the
  /// key back all of it goes on, without a restart.
  @Test(arguments: [false, true]) func revokedAndBack(inFolder: Bool) throws {
    let place = inFolder ? try Place.forFirstUse() : try Seeded.place()
    let server = try EmulatorServer(place, inFolder ? ["--keyring-key", place.key.name] : [])
    let machine = try VirtualMachine(place.folder, tpm: server.socket, device: .crb)
    try machine.waitUntilUp()
    _ = try machine.store()
    place.key.revoke()
    try server.waitUntilLogged("is locked and waits for a key: \(place.key.name)")
    let began = Date()
    let write = try machine.run("printf 'changed content.' | tpm2 nvwrite 0x1500020 -C o -i -")
    #expect(write.status != 0)
    // TPM_RC_NV_UNAVAILABLE: Linux hands it on at once, where TPM_RC_RETRY would have it try for 2.5 s.
    #expect(write.text.contains("0x923"), "\(write.text)")
    print("guest: a write without a key failed after \(String(format: "%.1f", -began.timeIntervalSinceNow)) s")
    #expect(try machine.expect("tpm2 getrandom --hex 8").count == 16)
    #expect(try machine.register() == machine.extended())
    place.key.load()
    try server.waitUntilLogged("the store is open")
    #expect(try machine.read() == VirtualMachine.secret)
    try machine.write("changed content.")
    #expect(try machine.read() == "changed content.")
    #expect(machine.powerOff() == 0)
    #expect(server.wait() == 0)
  }
}
