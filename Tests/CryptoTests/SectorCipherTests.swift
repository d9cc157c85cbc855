import Primitives
import Testing

@testable import Crypto

@Suite struct SectorCipherTests {
  enum TweakForm: String, CaseIterable {
    case hexadecimal = "tweak-128hexstr"
    case sequenceNumber = "tweak-dataunitseqno"

    var title: String { self == .hexadecimal ? "128-bit tweak" : "data unit sequence number" }

    func tweak(_ record: [String: String]) throws -> InlineBytes16 {
      switch self {
      case .hexadecimal:
        let bytes = try record.bytes("i")
        return InlineBytes16(bytes.span)
      case .sequenceNumber:
        var tweak = InlineBytes16()
        let number = try record.number("DataUnitSeqNumber")
        for i in 0..<8 { tweak[i] = UInt8(truncatingIfNeeded: number >> (8 * i)) }
        return tweak
      }
    }
  }

  static func encrypt(_ cipher: inout SectorCipher, _ input: [UInt8], _ tweak: InlineBytes16) throws -> [UInt8] {
    var output = [UInt8](repeating: 0, count: input.count)
    try cipher.encrypt(input.span, tweak: tweak, into: output.mutableSpan)
    return output
  }

  static func decrypt(_ cipher: inout SectorCipher, _ input: [UInt8], _ tweak: InlineBytes16) throws -> [UInt8] {
    var output = [UInt8](repeating: 0, count: input.count)
    try cipher.decrypt(input.span, tweak: tweak, into: output.mutableSpan)
    return output
  }

  @Test(arguments: TweakForm.allCases) func vectors(form: TweakForm) throws {
    let file = try VectorFile("nist-cavp-xts/\(form.rawValue)-XTSGenAES256.rsp", recordsBeginWith: "COUNT")
    var (passed, skipped) = (0, 0)
    for record in file.records {
      guard try record.number("DataUnitLen") % 8 == 0 else {
        skipped += 1
        continue
      }
      var cipher = try SectorCipher(key: record.secret("Key"))
      let (tweak, plaintext, ciphertext) = (try form.tweak(record), try record.bytes("PT"), try record.bytes("CT"))
      let encrypted = try Self.encrypt(&cipher, plaintext, tweak)
      let decrypted = try Self.decrypt(&cipher, ciphertext, tweak)
      #expect(encrypted == ciphertext)
      #expect(decrypted == plaintext)
      passed += encrypted == ciphertext && decrypted == plaintext ? 1 : 0
    }
    #expect((passed, skipped) == (600, 400))
    report("NIST CAVP XTS AES-256 \(form.title), both directions", passed: passed, skipped: skipped)
  }

  /// One cipher for many sectors gives what a fresh one gives for each: no state is left from call to call.
  @Test func keyStaysSet() throws {
    var shared = try SectorCipher(key: key(64))
    for (i, count) in [512, 4096, 16, 31, 4095, 512].enumerated() {
      var fresh = try SectorCipher(key: key(64))
      let (plaintext, tweak) = (pattern(count), InlineBytes16(pattern(16, UInt8(i)).span))
      let ciphertext = try Self.encrypt(&shared, plaintext, tweak)
      #expect(try ciphertext == Self.encrypt(&fresh, plaintext, tweak))
      #expect(try Self.decrypt(&shared, ciphertext, tweak) == plaintext)
    }
  }

  /// NIST has no vectors of whole bytes with ciphertext stealing, so it is built here from whole blocks as IEEE 1619
  /// §5.3.2 defines it.
  @Test(arguments: 17...31) func ciphertextStealing(count: Int) throws {
    var cipher = try SectorCipher(key: key(64))
    let (plaintext, tweak) = (pattern(count), InlineBytes16(pattern(16, 9).span))
    let rest = count - 16
    let first = try Self.encrypt(&cipher, Array(plaintext[..<16]), tweak)
    let stolen = Array(plaintext[16...]) + Array(first[rest...])
    let second = try Self.encrypt(&cipher, Array(plaintext[..<16]) + stolen, tweak)
    #expect(try Self.encrypt(&cipher, plaintext, tweak) == Array(second[16...]) + Array(first[..<rest]))
  }

  @Test func anotherTweakIsAnotherCiphertext() throws {
    var cipher = try SectorCipher(key: key(64))
    var tweak = InlineBytes16()
    let before = try Self.encrypt(&cipher, pattern(512), tweak)
    tweak[15] = 0x80
    let after = try Self.encrypt(&cipher, pattern(512), tweak)
    #expect(zip(before, after).filter(==).count < 32)
  }

  @Test func flippedBitSpoilsItsBlockOnly() throws {
    var cipher = try SectorCipher(key: key(64))
    let (plaintext, tweak) = (pattern(4096), InlineBytes16(pattern(16).span))
    var ciphertext = try Self.encrypt(&cipher, plaintext, tweak)
    ciphertext[100] ^= 4
    let decrypted = try Self.decrypt(&cipher, ciphertext, tweak)
    #expect(decrypted[96..<112] != plaintext[96..<112])
    #expect(decrypted[..<96] == plaintext[..<96] && decrypted[112...] == plaintext[112...])
  }

  @Test func equalKeyHalvesAreRefused() {
    let half = pattern(32)
    #expect(throws: CryptoError.equalKeyHalves) {
      _ = try SectorCipher(key: SecretBytes(copying: (half + half).span))
    }
  }

  @Test func wrongSizesTrap() async {
    await #expect(processExitsWith: .failure) { _ = try SectorCipher(key: SecretBytes(count: 63)) }
    await #expect(processExitsWith: .failure) {
      var cipher = try SectorCipher(key: key(64))
      _ = try SectorCipherTests.encrypt(&cipher, pattern(15), InlineBytes16())
    }
  }
}
