import CLibtpms

/// Which TPM a server is. The two speak different languages: other tags, other codes, other states.
public enum TPMVersion: Sendable {
  case tpm12
  case tpm2

  var libtpms: TPMLIB_TPMVersion { self == .tpm2 ? TPMLIB_TPM_VERSION_2 : TPMLIB_TPM_VERSION_1_2 }

  /// What one stores: a TPM 2.0 never has a savestate.
  public var states: [TPMStateName] {
    self == .tpm2 ? [.permall, .volatilestate] : [.permall, .volatilestate, .savestate]
  }

  /// A response without parameters: TPM_ST_NO_SESSIONS or TPM_TAG_RSP_COMMAND, 10, the code.
  func response(_ code: UInt32) -> [UInt8] {
    let tag: [UInt8] = self == .tpm2 ? [0x80, 0x01] : [0x00, 0xC4]
    return tag + [0, 0, 0, 10] + (0..<4).map { UInt8(truncatingIfNeeded: code >> (24 - 8 * $0)) }
  }

  /// TPM_RC_FAILURE (TPM 2.0 Part 2, 6.6.3), or TPM_FAIL. Also what a TPM that is off answers.
  var failure: [UInt8] { response(self == .tpm2 ? 0x101 : 9) }

  /// What says "not now, since nothing can be stored; nothing happened": TPM_RC_NV_UNAVAILABLE, or TPM_RETRY.
  var unavailable: [UInt8] { response(self == .tpm2 ? 0x923 : 0x800) }

  /// TPM_RC_LOCALITY, or TPM_BAD_LOCALITY.
  var badLocality: [UInt8] { response(self == .tpm2 ? 0x907 : 0x3D) }

  /// TPM_RC_INSUFFICIENT, or TPM_BAD_PARAM_SIZE.
  var tooShort: [UInt8] { response(self == .tpm2 ? 0x9A : 0x19) }

  /// TPM_RC_COMMAND_SIZE, or TPM_BAD_PARAM_SIZE.
  var wrongSize: [UInt8] { response(self == .tpm2 ? 0x142 : 0x19) }
}
