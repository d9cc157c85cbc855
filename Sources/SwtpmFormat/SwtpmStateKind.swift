/// The states that swtpm keeps of a TPM, with the names that it and libtpms give them.
public enum SwtpmStateKind: String, CaseIterable, Sendable {
  case permall
  case volatilestate
  /// TPM 1.2 only.
  case savestate
}

/// Which TPM a state is of.
public enum SwtpmVersion: String, CaseIterable, Sendable {
  case tpm2
  case tpm12 = "tpm1.2"

  /// The states that it has.
  public var states: [SwtpmStateKind] { self == .tpm2 ? [.permall, .volatilestate] : SwtpmStateKind.allCases }

  /// The file of a state directory that holds the state; `00` is the TPM's number, of which swtpm has one.
  public func fileName(_ kind: SwtpmStateKind) -> String {
    (self == .tpm2 ? "tpm2-00." : "tpm-00.") + kind.rawValue
  }

  /// The most bytes that a state may have, as `vnvram format --profile` and vnvram-swtpm have it.
  public func maximumSize(_ kind: SwtpmStateKind) -> Int {
    switch (self, kind) {
    case (.tpm2, .permall): 262_144
    case (.tpm2, _): 65_536
    case (.tpm12, .permall): 40_960
    case (.tpm12, _): 24_576
    }
  }

  /// What a permanent state is of: that of a TPM 2.0 begins with a version and libtpms' magic number.
  public init(ofPermanentState state: Span<UInt8>) {
    let magic: [UInt8] = [0xAB, 0x36, 0x47, 0x23]
    let isTPM2 = state.count >= 6 && magic.indices.allSatisfy { state[2 + $0] == magic[$0] }
    self = isTPM2 ? .tpm2 : .tpm12
  }
}
