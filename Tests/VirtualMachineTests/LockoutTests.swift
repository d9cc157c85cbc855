import Foundation
import TestSupport
import Testing

/// Machines that are killed one after the other while a password that is protected against guessing is in use. To the
/// TPM the loss of power without TPM2_Shutdown may hide a wrong guess (TPM 2.0 Part 1, 19.8.6); after three it refuses
/// all passwords for a thousand seconds.
@Suite(.enabled(if: VirtualMachine.isAvailable, VirtualMachine.unavailable)) struct LockoutTests {
  /// With the server's TPM2_Shutdown nothing is counted; without it, as swtpm 0.7.1 does, the fourth boot is locked
  /// out.
  @Test(arguments: [true, false]) func killedThreeTimes(isToldToTheTPM: Bool) throws {
    let place = try Place()
    let flags = isToldToTheTPM ? [] : ["--flags", "disable-auto-shutdown"]
    for killed in 0...3 {
      let server = try EmulatorServer(place, ["--terminate"] + flags)
      let machine = try VirtualMachine(place.folder, tpm: server.socket, device: killed % 2 == 0 ? .crb : .tis)
      try machine.waitUntilUp()
      #expect(try machine.lockoutCounter() == "0x\(isToldToTheTPM ? 0 : killed)")
      if killed < 3 {
        try machine.usePassword()
      } else {
        let use = try machine.run(VirtualMachine.passwordUse)
        // TPM_RC_LOCKOUT.
        #expect(isToldToTheTPM ? use.status == 0 : use.text.contains("0x921"), "\(use.text)")
      }
      machine.kill()
      #expect(server.wait() == 0, "\(server.log)")
    }
  }
}
