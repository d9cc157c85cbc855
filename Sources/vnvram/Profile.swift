import ArgumentParser

/// Entries for a kind of device, so that nobody has to look up their sizes.
enum Profile: String, CaseIterable, ExpressibleByArgument {
  case tpm2
  case tpm12 = "tpm1.2"
  case uefi

  /// Names and capacities in bytes.
  var entries: [(name: String, capacity: UInt64)] {
    switch self {
    // libtpms 0.9: NV memory of 176,832 bytes, so that 256 KiB hold any permanent state of a TPM 2.0; its volatile state
    // was seen at up to 12,503 bytes.
    case .tpm2: [("permall", 262_144), ("volatilestate", 65_536)]
    // Its maxima for TPM 1.2 (38,644, 21,319 and 21,088 bytes), each rounded up to a multiple of 4 KiB.
    case .tpm12: [("permall", 40_960), ("volatilestate", 24_576), ("savestate", 24_576)]
    // The variable store of EDK II's OVMF with 4 MiB flash, as OVMF_VARS.fd has it: VARS_SIZE, 0x84000 bytes.
    case .uefi: [("efivars", 540_672)]
    }
  }
}
