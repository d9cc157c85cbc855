import CLibtpms

/// What libtpms says of itself where no TPM runs: for `--print-capabilities` and `--print-info`. Not to be used beside
/// a `TPM`, which has chosen a version for good.
public enum LibraryInfo {
  /// The versions that this libtpms was built with.
  public static var versions: [TPMVersion] {
    [.tpm12, .tpm2].filter { TPMLIB_ChooseTPMVersion($0.libtpms) == TPMResult.success.rawValue }
  }

  /// JSON, as `TPMProfile.information` has it. Nil where this libtpms hasn't this version.
  public static func json(_ version: TPMVersion, flags: UInt32) -> String? {
    guard TPMLIB_ChooseTPMVersion(version.libtpms) == TPMResult.success.rawValue else { return nil }
    return TPMProfile.information(version, flags: flags) ?? "{}"
  }

  /// `--print-profiles`: as above, with which a TPM can be made.
  public static func profiles(_ version: TPMVersion) -> String? { json(version, flags: 0x40) }

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
