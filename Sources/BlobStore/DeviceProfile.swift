import Primitives

/// Entries for a kind of device, so that nobody has to look up their sizes. The raw values are names on the command
/// line.
public enum DeviceProfile: String, CaseIterable, Sendable {
  case tpm2
  case tpm12 = "tpm1.2"
  case uefi

  public var entries: [EntrySpecification] {
    switch self {
    // libtpms 0.9: NV memory of 176,832 bytes, so that 256 KiB hold any permanent state of a TPM 2.0; its volatile
    // state was seen at up to 12,503 bytes.
    case .tpm2: [Self.entry("permall", 262_144), Self.entry("volatilestate", 65_536)]
    // Its maxima for TPM 1.2 (38,644, 21,319 and 21,088 bytes), each rounded up to a multiple of 4 KiB.
    case .tpm12:
      [Self.entry("permall", 40_960), Self.entry("volatilestate", 24_576), Self.entry("savestate", 24_576)]
    // The variable store of EDK II's OVMF with 4 MiB flash, as OVMF_VARS.fd has it: VARS_SIZE, 0x84000 bytes.
    case .uefi: [Self.entry("efivars", 540_672)]
    }
  }

  private static func entry(_ name: EntryName, _ capacity: UInt64) -> EntrySpecification {
    EntrySpecification(name: name, capacity: ByteCount(capacity))
  }
}
