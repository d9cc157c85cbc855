import Primitives
import Testing

@testable import Crypto

/// What is there for swtpm's format alone, against published vectors.
@Suite struct ForeignCipherTests {
  private func bytes(_ hex: String) -> [UInt8] {
    let digits = hex.compactMap(\.hexDigitValue)
    return stride(from: 0, to: digits.count - 1, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) }
  }

  private func array(_ secret: borrowing SecretBytes) -> [UInt8] { (0..<secret.count).map { secret.span[$0] } }

  /// NIST SP 800-38A, F.2.1 and F.2.5: the first two blocks of CBC-AES128 and CBC-AES256.
  @Test(arguments: [
    (
      "2b7e151628aed2a6abf7158809cf4f3c",
      "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2"
    ),
    (
      "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
      "f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d"
    ),
  ]) func cbc(key: String, ciphertext: String) throws {
    let plaintext = bytes("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51")
    let vector = bytes("000102030405060708090a0b0c0d0e0f")
    let keyBytes = bytes(key)
    let secret = SecretBytes(copying: keyBytes.span)
    var output = [UInt8](repeating: 0, count: 32)
    try BlockChaining.run(.encrypt, plaintext.span, key: secret, vector: vector.span, into: output.mutableSpan)
    #expect(output == bytes(ciphertext))
    var back = [UInt8](repeating: 0, count: 32)
    try BlockChaining.run(.decrypt, output.span, key: secret, vector: vector.span, into: back.mutableSpan)
    #expect(back == plaintext)
  }

  /// RFC 4231, test case 2, in two pieces.
  @Test func mac() throws {
    let (first, second) = (Array("what do ya want ".utf8), Array("for nothing?".utf8))
    let key = Array("Jefe".utf8)
    let mac = try ForeignMAC.hmacSHA256(first.span, second.span, key: SecretBytes(copying: key.span))
    #expect(mac.array == bytes("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"))
  }

  /// FIPS 180-4's example "abc".
  @Test func sha512() throws {
    let password = Array("abc".utf8)
    let digest = try PasswordHash.sha512(SecretBytes(copying: password.span), count: 64)
    let expected = bytes(
      "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
        + "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f")
    let whole = array(digest)
    #expect(whole == expected)
    let short = try PasswordHash.sha512(SecretBytes(copying: password.span), count: 16)
    let start = array(short)
    #expect(start == Array(expected.prefix(16)))
  }

  /// PBKDF2-HMAC-SHA-512 of "password" and "salt", 1 and 1000 iterations, as `openssl kdf` prints it.
  @Test(
    arguments: [
      (1, "867f70cf1ade02cff3752599a3a53dc4af34c7a669815ae5d513554e1c8cf252"),
      (1000, "afe6c5530785b6cc6b1c6453384731bd5ee432ee549fd42fb6695779ad8a1c5b"),
    ] as [(Int32, String)]) func pbkdf2(iterations: Int32, key: String) throws
  {
    let (password, salt) = (Array("password".utf8), Array("salt".utf8))
    let derived = try PasswordHash.pbkdf2SHA512(
      SecretBytes(copying: password.span), salt: salt.span, iterations: iterations, count: 32)
    let found = array(derived)
    #expect(found == bytes(key))
  }
}
