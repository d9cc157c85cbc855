import Primitives

/// A TPM_RESULT: what libtpms' functions and the control channel answer (TPM Main Part 2, section 16). The header's
/// macros are sums, which don't come through to Swift.
public struct TPMResult: RawRepresentable, Equatable, Sendable, CustomStringConvertible {
  public let rawValue: UInt32
  public init(rawValue: UInt32) { self.rawValue = rawValue }

  static let success = TPMResult(rawValue: 0)
  static let badParameter = TPMResult(rawValue: 3)
  static let fail = TPMResult(rawValue: 9)
  static let badOrdinal = TPMResult(rawValue: 0x0A)
  static let noSpace = TPMResult(rawValue: 0x11)
  static let keyNotFound = TPMResult(rawValue: 0x0D)
  static let size = TPMResult(rawValue: 0x17)
  static let inputOutput = TPMResult(rawValue: 0x1F)
  static let decryptError = TPMResult(rawValue: 0x21)
  static let badKeyProperty = TPMResult(rawValue: 0x28)
  static let badDataSize = TPMResult(rawValue: 0x2B)
  static let badVersion = TPMResult(rawValue: 0x2E)
  static let badLocality = TPMResult(rawValue: 0x3D)
  /// TPM_RC_FAILURE of a TPM 2.0.
  static let tpm2Failure = TPMResult(rawValue: 0x101)
  /// From a load callback: "there is none", and then libtpms manufactures a new TPM. Never for anything else.
  static let retry = TPMResult(rawValue: 0x800)

  public var description: String { "0x" + String(rawValue, radix: 16) }
}
