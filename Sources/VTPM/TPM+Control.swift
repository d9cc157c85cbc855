import CLibtpms
import Glibc

// What the control channel asks of libtpms itself.
extension TPM {
  /// Whether the tpmEstablished bit is set (TCG PC Client, D-RTM).
  public func isEstablished() throws(TPMError) -> Bool {
    var bit: TPM_BOOL = 0
    let result = unsafe TPMResult(rawValue: TPM_IO_TpmEstablished_Get(&bit))
    guard result == .success else { throw .libtpms(operation: "reading tpmEstablished", result) }
    return bit != 0
  }

  /// Resets the tpmEstablished bit on behalf of a locality; the TPM refuses all but 3 and 4.
  func resetEstablished(locality: UInt8) -> TPMResult {
    let saved = self.locality
    self.locality = locality
    defer { self.locality = saved }
    return durable(TPMResult(rawValue: TPM_IO_TpmEstablished_Reset()))
  }

  /// _TPM_Hash_Start, _TPM_Hash_Data, _TPM_Hash_End: a dynamic root of trust, or a firmware that starts (PCR 17 or 0).
  func startHash() -> TPMResult { TPMResult(rawValue: TPM_IO_Hash_Start()) }

  func addHashData(_ bytes: Span<UInt8>) -> TPMResult {
    unsafe bytes.withUnsafeBufferPointer { bytes in
      unsafe TPMResult(rawValue: TPM_IO_Hash_Data(bytes.baseAddress, UInt32(bytes.count)))
    }
  }

  func endHash() -> TPMResult { durable(TPMResult(rawValue: TPM_IO_Hash_End())) }

  /// No success for what a locked store didn't take.
  private func durable(_ result: TPMResult) -> TPMResult {
    withheld == nil || storeWithheld() ? result : .decryptError
  }

  /// The size of the command and response buffer: asks with 0, else sets what is nearest within the limits.
  func setBufferSize(_ wanted: UInt32) -> (size: UInt32, minimum: UInt32, maximum: UInt32) {
    var (minimum, maximum): (UInt32, UInt32) = (0, 0)
    let size = unsafe TPMLIB_SetBufferSize(wanted, &minimum, &maximum)
    return (size, minimum, maximum)
  }

  /// What `TPMProfile.information` says, NUL-terminated.
  func info(flags: UInt32) -> [UInt8]? {
    TPMProfile.information(version, flags: flags).map { Array($0.utf8) + [0] }
  }
}
