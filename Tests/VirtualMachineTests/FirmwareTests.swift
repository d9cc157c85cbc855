import Foundation
import TestSupport
import Testing

/// A machine whose UEFI firmware (Debian's ovmf) measures what it starts.
@Suite(
  .enabled(if: VirtualMachine.isAvailable, VirtualMachine.unavailable),
  .enabled(if: Firmware.isAvailable, Firmware.unavailable))
struct FirmwareTests {
  /// The registers are what the firmware's log says that it measured, as tpm2-tools compute them; a secret that is
  /// sealed to them opens after a reset, in the same state, and doesn't once something else was measured.
  @Test func measuredBoot() throws {
    let place = try Place()
    let server = try EmulatorServer(place)
    let machine = try VirtualMachine(
      place.folder, tpm: server.socket, device: .crb, arguments: Firmware.arguments(place))
    try machine.waitUntilUp()
    try machine.expect("mount -t securityfs none /sys/kernel/security")
    let log = "/sys/kernel/security/tpm0/binary_bios_measurements"
    let replayed = try registers(machine.expect("tpm2 eventlog \(log) | sed -n '/^pcrs:/,$p'"))
    let held = try registers(machine.expect("tpm2 pcrread sha256:0,1,2,3,4,5,6,7"))
    #expect(held.count == 8 && held.values.allSatisfy { $0 != VirtualMachine.reset })
    for (index, value) in held { #expect(replayed[index] == value, "PCR \(index)") }

    let policy = "tpm2 createpolicy -Q --policy-pcr -l sha256:0,2,4,7 -L /tmp/policy"
    let primary = "tpm2 createprimary -Q -C o -G ecc -c /tmp/primary"
    try machine.expect("\(primary) && \(policy)")
    try machine.expect(
      "cd /tmp; echo it | tpm2 create -Q -C primary -L policy -i - -u u -r r && tpm2 load -Q -C primary -u u -r r -c c"
        + " && tpm2 evictcontrol -Q -C o -c c 0x81000002")
    try machine.reset()
    let unseal = "tpm2 unseal -c 0x81000002 -p pcr:sha256:0,2,4,7"
    #expect(try machine.expect(unseal) == "it")
    try machine.expect("tpm2 pcrextend 4:sha256=\(String(repeating: "ab", count: 32))")
    // TPM_RC_POLICY_FAIL.
    #expect(try machine.run(unseal).text.lowercased().contains("0x99d"))
    #expect(machine.powerOff() == 0)
    #expect(server.wait() == 0)
  }

  /// Of lines like `4 : 0x…`, behind each other the banks sha1 and sha256, of which the last one counts.
  private func registers(_ text: String) throws -> [Int: String] {
    var found: [Int: String] = [:]
    for line in text.split(separator: "\n") {
      let parts = line.split { $0 == ":" || $0 == " " }
      guard parts.count == 2, let index = Int(parts[0]), parts[1].hasPrefix("0x") else { continue }
      if parts[1].count == 66 { found[index] = parts[1].dropFirst(2).lowercased() }
    }
    return found
  }
}

enum Firmware {
  static let unavailable: Comment = "there is no UEFI firmware (Debian's package ovmf)"
  private static let folder = "/usr/share/OVMF"
  static let isAvailable = File.exists("\(folder)/OVMF_CODE_4M.fd") && File.exists("\(folder)/OVMF_VARS_4M.fd")

  /// QEMU's options for it, with variables of the machine's own.
  static func arguments(_ place: Place) throws -> [String] {
    try FileManager.default.copyItem(atPath: "\(folder)/OVMF_VARS_4M.fd", toPath: place.path("variables"))
    return [
      "-drive", "if=pflash,format=raw,unit=0,readonly=on,file=\(folder)/OVMF_CODE_4M.fd",
      "-drive", "if=pflash,format=raw,unit=1,file=\(place.path("variables"))",
    ]
  }
}
