/// The states that libtpms keeps, under the names that it gives them.
public enum TPMStateName: String, CaseIterable, Sendable {
  /// Everything that outlives a power cycle: seeds, hierarchies, NV indices, persistent objects.
  case permall
  /// Everything that doesn't: PCRs, sessions, loaded objects. Stored on request only, to suspend and to migrate.
  case volatilestate
  /// TPM 1.2 only: what TPM_SaveState keeps.
  case savestate

  /// The most bytes one may have, in memory and in the store. TPM 2's NV memory is 176,832 bytes and its volatile state
  /// about 12,500; a TPM 1.2's savestate was never seen above 21,088.
  public var maximumSize: Int {
    switch self {
    case .permall: 262_144
    case .volatilestate: 65_536
    case .savestate: 32_768
    }
  }
}
