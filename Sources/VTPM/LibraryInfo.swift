import CLibtpms
import Glibc

/// What libtpms says of itself where no TPM runs: for `--print-capabilities` and `--print-info`. Not to be used beside a
/// `TPM`, which has chosen a version for good.
public enum LibraryInfo {
  /// The versions that this libtpms was built with.
  public static var versions: [TPMVersion] {
    [.tpm12, .tpm2].filter { TPMLIB_ChooseTPMVersion($0.libtpms) == TPMResult.success.rawValue }
  }

  /// JSON, as TPMLIB_GetInfo(3) has it. Flags that this libtpms doesn't know add nothing. Nil where it hasn't this version.
  public static func json(_ version: TPMVersion, flags: UInt32) -> String? {
    guard TPMLIB_ChooseTPMVersion(version.libtpms) == TPMResult.success.rawValue else { return nil }
    guard let text = unsafe TPMLIB_GetInfo(TPMLIB_InfoFlags(flags)) else { return "{}" }
    defer { unsafe free(text) }
    return unsafe String(cString: text)
  }

  /// The sizes of RSA keys in bits, where libtpms tells them: from `"RSAKeySizes":[1024,2048]` in its JSON.
  public static func rsaKeySizes(_ version: TPMVersion) -> [Int] {
    let mark = Array("\"RSAKeySizes\":[".utf8)
    guard let text = json(version, flags: 4).map({ Array($0.utf8) }), text.count > mark.count else { return [] }
    let starts = 0...(text.count - mark.count)
    guard let start = starts.first(where: { text[$0..<$0 + mark.count].elementsEqual(mark) }) else { return [] }
    let list = text[(start + mark.count)...].prefix { $0 != UInt8(ascii: "]") }
    return list.split(separator: UInt8(ascii: ",")).compactMap { Int(String(decoding: $0, as: UTF8.self)) }
  }
}
