import CTSS
import Primitives
import SecureVolume

/// An NV counter of the host's TPM 2.0 (TPM 2.0 Library, part 3, NV_Increment): it only ever goes up, and one that is
/// defined anew begins above the highest value that any counter of that TPM ever had (part 1, "NV counters").
///
/// Connected for as long as the object lives; nothing is opened later.
@safe final class TPMCounter {
  /// For messages: `TPM counter 0x01800100`.
  let name: String
  private let counter: OpaquePointer

  /// - Parameters:
  ///   - index: the NV index, defined beforehand, with an empty authorization value that may read and increment it.
  ///   - tcti: how to reach the TPM, as tpm2-tss has it: `device:/dev/tpmrm0`, `swtpm:path=…`.
  ///
  /// - Throws: `.refused` for a host that is no numeric address; else as `TPMCounterAnchor`.
  init(index: UInt32, tcti: String) throws(AnchorError) {
    let digits = String(index, radix: 16)
    let name = "TPM counter 0x" + String(repeating: "0", count: max(0, 8 - digits.count)) + digits
    if let objection = TCTIConfiguration(text: tcti).objection {
      throw AnchorError(.refused, anchor: name, "tcti=\(tcti) \(objection)")
    }
    var new: OpaquePointer?
    try unsafe Self.call(name) { unsafe ctss_open(tcti, index, &new, $0, $1) }
    guard let new = unsafe new else { throw AnchorError(.device(.failed), anchor: name, "can't be opened") }
    self.name = name
    unsafe counter = new
  }

  deinit { unsafe ctss_close(counter) }

  /// - Throws: `.missing` where it was never incremented, or is gone.
  func read() throws(AnchorError) -> UInt64 {
    var value: UInt64 = 0
    try unsafe Self.call(name) { unsafe ctss_read(counter, &value, $0, $1) }
    return value
  }

  /// As `read`; 0 for one that was never incremented.
  func readOrZero() throws(AnchorError) -> UInt64 {
    var value: UInt64 = 0
    try unsafe Self.call(name, accepting: Int32(CTSS_NEVER_COUNTED)) { unsafe ctss_read(counter, &value, $0, $1) }
    return value
  }

  /// One more; kept by the TPM on return.
  func increment() throws(AnchorError) {
    try unsafe Self.call(name) { unsafe ctss_increment(counter, $0, $1) }
  }

  private static func call(
    _ name: String, accepting: Int32 = 0, _ body: (UnsafeMutablePointer<CChar>?, Int) -> Int32
  ) throws(AnchorError) {
    let (result, message) = unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: 512) { buffer in
      unsafe buffer.initialize(repeating: 0)
      let result = unsafe body(buffer.baseAddress, buffer.count)
      let bytes = unsafe buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
      return (result, String(decoding: bytes, as: UTF8.self))
    }
    if result == accepting || result == CTSS_OK { return }
    throw AnchorError(code(result), anchor: name, "\(message)\(remedy(result))")
  }

  private static func code(_ result: Int32) -> AnchorError.Code {
    switch Int(result) {
    case CTSS_NO_INDEX, CTSS_NEVER_COUNTED: .missing
    case CTSS_NO_COUNTER: .refused
    case CTSS_NO_LIBRARY: .device(.failed)
    default: .device(.inputOutput)
    }
  }

  private static func remedy(_ result: Int32) -> String {
    switch Int(result) {
    case CTSS_NO_LIBRARY: "; install tpm2-tss (Debian: libtss2-esys-3.0.2-0 and libtss2-tctildr0)"
    case CTSS_NO_INDEX, CTSS_NO_COUNTER:
      "; define it with tpm2_nvdefine -s 8 -a 'authread|authwrite|no_da|nt=counter'"
    case CTSS_NEVER_COUNTED:
      ", so it is not the one that protected this store; accept the image as it is with `vnvram accept-rollback`"
    default: "; is the TPM there, and may you use it?"
    }
  }
}
