import CLibtpms
import Glibc

/// The profile that every TPM 2.0 here has: the one that libtpms calls "null", which is what libtpms 0.9 does. Newer
/// ones have it too, and it is what a state without a profile has. A TPM 1.2 has none.
///
/// libtpms 0.9 knows nothing of profiles, and swtpm_setup 0.10 makes no TPM where it isn't told of them: what that
/// libtpms leaves out of its JSON is told here, in libtpms' form (`PrintTests`, `ProfileTests`).
public enum TPMProfile {
  public static let name = "null"
  public static let stateFormatLevel = 1

  /// The codes of the commands that it has, as libtpms writes them (TPM 2.0 Part 2, 6.5.2).
  public static let commands =
    "0x11f-0x122,0x124-0x12e,0x130-0x140,0x142-0x159,0x15b-0x15e,0x160-0x165,0x167-0x174,0x176-0x178,0x17a-0x193,0x197"

  public static let algorithms =
    "rsa,rsa-min-size=1024,tdes,tdes-min-size=128,sha1,hmac,aes,aes-min-size=128,mgf1,keyedhash,xor,sha256,sha384,sha512,"
    + "null,rsassa,rsaes,rsapss,oaep,ecdsa,ecdh,ecdaa,sm2,ecschnorr,ecmqv,kdf1-sp800-56a,kdf2,kdf1-sp800-108,ecc,"
    + "ecc-min-size=192,ecc-nist,ecc-bn,ecc-sm2-p256,symcipher,camellia,camellia-min-size=128,cmac,ctr,ofb,cbc,cfb,ecb"

  private static let json = """
    {"Name":"\(name)","StateFormatLevel":\(stateFormatLevel),"Commands":"\(commands)","Algorithms":"\(algorithms)",\
    "Description":"The commands and algorithms of libtpms 0.9."}
    """

  /// What may be asked of libtpms, by the bits of `TPMLIB_GetInfo` and GET_INFO.
  private enum Member: UInt32, CaseIterable {
    case runtimeAlgorithms = 0x08
    case runtimeCommands = 0x10
    case activeProfile = 0x20
    case availableProfiles = 0x40
    case runtimeAttributes = 0x80

    var name: String {
      switch self {
      case .runtimeAlgorithms: "RuntimeAlgorithms"
      case .runtimeCommands: "RuntimeCommands"
      case .activeProfile: "ActiveProfile"
      case .availableProfiles: "AvailableProfiles"
      case .runtimeAttributes: "RuntimeAttributes"
      }
    }

    var value: String {
      switch self {
      case .runtimeAlgorithms: Self.fixed(algorithms)
      case .runtimeCommands: Self.fixed(commands)
      case .activeProfile: json
      case .availableProfiles: "[\(json)]"
      case .runtimeAttributes: Self.fixed("")
      }
    }

    /// Nothing can be disabled.
    private static func fixed(_ list: String) -> String {
      "{\"Implemented\":\"\(list)\",\"CanBeDisabled\":\"\",\"Enabled\":\"\(list)\",\"Disabled\":\"\"}"
    }
  }

  /// What the TPM is: JSON, as TPMLIB_GetInfo(3) has it. `flags`: 1 specification, 2 attributes, 4 features; of a TPM
  /// 2.0 also 8 algorithms, 0x10 commands, 0x20 its profile, 0x40 the profiles that it could have, 0x80 attributes.
  /// Others add nothing. Nil where libtpms has no memory. libtpms is on this version.
  static func information(_ version: TPMVersion, flags: UInt32) -> String? {
    // Of the profiles that a newer libtpms could have, this server makes TPMs with one.
    guard let text = libtpms(flags & ~Member.availableProfiles.rawValue) else { return nil }
    guard version == .tpm2 else { return text }
    var members = text.dropFirst().dropLast().isEmpty ? [] : [String(text.dropFirst().dropLast())]
    for member in Member.allCases where flags & member.rawValue != 0 {
      guard !contains(text, "\"\(member.name)\":") else { continue }
      members.append("\"\(member.name)\":\(member.value)")
    }
    return "{\(members.joined(separator: ","))}"
  }

  private static func libtpms(_ flags: UInt32) -> String? {
    guard let text = unsafe TPMLIB_GetInfo(TPMLIB_InfoFlags(flags)) else { return nil }
    defer { unsafe free(text) }
    return unsafe String(cString: text)
  }

  private static func contains(_ text: String, _ part: String) -> Bool {
    let (text, part) = (Array(text.utf8), Array(part.utf8))
    guard text.count >= part.count else { return false }
    return (0...text.count - part.count).contains { text[$0..<$0 + part.count].elementsEqual(part) }
  }
}
