import TestSupport
import Testing

/// What the tests do with the TPM, by tpm2-tools in the guest through the kernel's driver.
extension Guest {
  static var secret: String { "the secret of NV" }
  private static var measured: String { String(repeating: "ab", count: 32) }

  /// A secret in an NV index, a persistent key, and something measured into PCR 16. The key's public part.
  func store() throws -> String {
    try expect("tpm2 nvdefine 0x1500020 -Q -C o -s 16 -a 'ownerread|ownerwrite'")
    try write(Self.secret)
    try expect(
      "tpm2 createprimary -Q -C o -G ecc -c /tmp/primary && tpm2 evictcontrol -Q -C o -c /tmp/primary 0x81000001")
    try expect("tpm2 pcrextend 16:sha256=\(Self.measured)")
    return try publicPart()
  }

  /// 16 characters into the NV index; on return the TPM has acknowledged them.
  func write(_ text: String) throws { try expect("printf '\(text)' | tpm2 nvwrite 0x1500020 -C o -i -") }

  func read() throws -> String { try expect("tpm2 nvread 0x1500020 -C o -s 16") }

  func publicPart() throws -> String { try expect("tpm2 readpublic -c 0x81000001") }

  /// Uses an index whose password is protected against guessing; makes it where there is none yet.
  func usePassword() throws {
    let define = "tpm2 nvdefine 0x1500021 -Q -C o -s 8 -p word -a 'authread|authwrite|ownerread'"
    try expect("tpm2 nvreadpublic 0x1500021 >/dev/null || \(define)")
    try expect(Self.passwordUse)
  }

  static var passwordUse: String { "printf 12345678 | tpm2 nvwrite 0x1500021 -C 0x1500021 -P word -i -" }

  /// How many guesses the TPM has counted.
  func lockoutCounter() throws -> String {
    try expect("tpm2 getcap properties-variable | sed -n 's/.*LOCKOUT_COUNTER: *//p'")
  }

  /// PCR 16, in hexadecimal.
  func register() throws -> String { try expect("tpm2 pcrread -Q -o /tmp/pcr sha256:16; xxd -p -c 64 /tmp/pcr") }

  /// What PCR 16 is once `store` has extended it, as another program computes it.
  func extended() throws -> String {
    let before = String(repeating: "00", count: 32)
    return try expect("printf \(before)\(Self.measured) | xxd -r -p | sha256sum | cut -d ' ' -f 1")
  }

  static var reset: String { String(repeating: "00", count: 32) }
}
