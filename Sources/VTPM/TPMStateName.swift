/// The states that libtpms keeps, under the names that it gives them.
public enum TPMStateName: String, CaseIterable, Sendable {
  /// Everything that outlives a power cycle: seeds, hierarchies, NV indices, persistent objects.
  case permall
  /// Everything that doesn't: PCRs, sessions, loaded objects. Stored on request only, to suspend and to migrate.
  case volatilestate
  /// TPM 1.2 only: what TPM_SaveState keeps.
  case savestate

  /// The number that the control channel has for it.
  var blobType: UInt32 {
    switch self {
    case .permall: 1
    case .volatilestate: 2
    case .savestate: 3
    }
  }

  init?(blobType: UInt32) {
    guard let name = Self.allCases.first(where: { $0.blobType == blobType }) else { return nil }
    self = name
  }

  /// The most bytes one may have, in memory and in the store. TPM 2's NV memory is 176,832 bytes and its volatile state
  /// about 12,500. libtpms' own maxima for TPM 1.2 are 38,644, 21,319 and 21,088, here each rounded up to 4 KiB, as
  /// `vnvram format --profile tpm1.2` has it.
  public func maximumSize(_ version: TPMVersion) -> Int {
    switch (self, version) {
    case (.permall, .tpm2): 262_144
    case (.volatilestate, .tpm2): 65_536
    case (.permall, .tpm12): 40_960
    case (.volatilestate, .tpm12), (.savestate, _): 24_576
    }
  }
}
