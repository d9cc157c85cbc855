import Foundation
import Glibc
import Primitives
import Testing

@testable import Crypto

@Suite struct KeyDerivationTests {
  @Test func vectors() throws {
    let file = try VectorFile("rfc/rfc-5869-HKDF-SHA256.txt", recordsBeginWith: "COUNT")
    var passed = 0
    for record in file.records {
      let (salt, info) = (try record.bytes("salt"), try record.bytes("info"))
      let (count, expected) = (try record.number("L"), try record.bytes("OKM"))
      let key = try record.secret("IKM")
      let derived = try KeyDerivation.hkdf(key: key, salt: salt.span, info: info.span, count: count)
      let bytes = derived.span.array
      #expect(bytes == expected)
      passed += 1
    }
    #expect(passed == 3)
    report("RFC 5869 HKDF-SHA-256", passed: passed)
  }

  @Test func everyInputCounts() throws {
    func derive(_ k: UInt8, _ salt: UInt8, _ info: UInt8) throws -> [UInt8] {
      let derived = try KeyDerivation.hkdf(key: key(32, k), salt: [salt].span, info: [info].span, count: 32)
      return derived.span.array
    }
    let outputs = Set([try derive(1, 1, 1), try derive(2, 1, 1), try derive(1, 2, 1), try derive(1, 1, 2)])
    #expect(outputs.count == 4)
  }
}

@Suite struct KeyWrapTests {
  static func seal(
    _ plaintext: borrowing SecretBytes, key: borrowing SecretBytes, nonce: [UInt8], data: [UInt8]
  ) throws -> (ciphertext: [UInt8], tag: InlineBytes16) {
    var ciphertext = [UInt8](repeating: 0, count: plaintext.count)
    let tag = try KeyWrap.seal(
      plaintext, key: key, nonce: nonce.span, associatedData: data.span, ciphertext: ciphertext.mutableSpan)
    return (ciphertext, tag)
  }

  static func open(
    _ ciphertext: [UInt8], _ tag: InlineBytes16, key: borrowing SecretBytes, nonce: [UInt8], data: [UInt8]
  ) throws -> [UInt8]? {
    let opened = try KeyWrap.open(
      ciphertext: ciphertext.span, tag: tag, key: key, nonce: nonce.span, associatedData: data.span)
    guard let opened else { return nil }
    return opened.span.array
  }

  @Test func encryptionVectors() throws {
    let file = try VectorFile("nist-cavp-gcm/gcmEncryptExtIV256-excerpt.rsp", recordsBeginWith: "Count")
    var passed = 0
    for record in file.records {
      let (ciphertext, tag) = try Self.seal(
        record.secret("PT"), key: record.secret("Key"), nonce: record.bytes("IV"), data: record.bytes("AAD"))
      #expect(try ciphertext == record.bytes("CT"))
      #expect(try tag.array == record.bytes("Tag"))
      passed += 1
    }
    #expect(passed == 75)
    report("NIST CAVP AES-256-GCM encryption", passed: passed)
  }

  @Test func decryptionVectors() throws {
    let file = try VectorFile("nist-cavp-gcm/gcmDecrypt256-excerpt.rsp", recordsBeginWith: "Count")
    var (passed, refused) = (0, 0)
    for record in file.records {
      let bytes = try record.bytes("Tag")
      let tag = InlineBytes16(bytes.span)
      let opened = try Self.open(
        record.bytes("CT"), tag, key: record.secret("Key"), nonce: record.bytes("IV"), data: record.bytes("AAD"))
      if record["FAIL"] != nil {
        #expect(opened == nil)
        refused += 1
      } else {
        #expect(try opened == record.bytes("PT"))
      }
      passed += 1
    }
    #expect(passed == 75 && refused > 10)
    report("NIST CAVP AES-256-GCM decryption (\(refused) of them must fail)", passed: passed)
  }

  @Test func everyFlippedBitIsRefused() throws {
    let (nonce, data) = (pattern(12), pattern(20, 3))
    let (ciphertext, tag) = try Self.seal(key(32, 5), key: key(32), nonce: nonce, data: data)
    #expect(try Self.open(ciphertext, tag, key: key(32), nonce: nonce, data: data) == pattern(32, 5))
    func flipped(_ bytes: [UInt8], _ bit: Int) -> [UInt8] {
      var changed = bytes
      changed[bit / 8] ^= 1 << UInt8(bit % 8)
      return changed
    }
    for bit in 0..<256 {
      #expect(try Self.open(flipped(ciphertext, bit), tag, key: key(32), nonce: nonce, data: data) == nil)
    }
    for bit in 0..<160 {
      #expect(try Self.open(ciphertext, tag, key: key(32), nonce: nonce, data: flipped(data, bit)) == nil)
    }
    for bit in 0..<96 {
      #expect(try Self.open(ciphertext, tag, key: key(32), nonce: flipped(nonce, bit), data: data) == nil)
    }
    for bit in 0..<128 {
      let changed = InlineBytes16(flipped(tag.array, bit).span)
      #expect(try Self.open(ciphertext, changed, key: key(32), nonce: nonce, data: data) == nil)
    }
  }

  @Test func truncatedOrUnderAnotherKeyIsRefused() throws {
    let (nonce, data) = (pattern(12), pattern(20, 3))
    let (ciphertext, tag) = try Self.seal(key(32, 5), key: key(32), nonce: nonce, data: data)
    #expect(try Self.open(ciphertext.dropLast(), tag, key: key(32), nonce: nonce, data: data) == nil)
    #expect(try Self.open(ciphertext, tag, key: key(32), nonce: nonce, data: data.dropLast()) == nil)
    #expect(try Self.open(ciphertext, tag, key: key(32, 9), nonce: nonce, data: data) == nil)
    // A refusal leaves nothing in libcrypto's error queue that would colour a later message.
    #expect(CryptoError.last("x") == .failed("x"))
  }
}

@Suite struct PassphraseKDFTests {
  /// The last vector takes 1 GiB and seconds: only where VNVRAM_SLOW_TESTS is set.
  @Test func vectors() throws {
    let file = try VectorFile("rfc/rfc-7914-scrypt.txt", recordsBeginWith: "COUNT")
    let slow = ProcessInfo.processInfo.environment["VNVRAM_SLOW_TESTS"] != nil
    var (passed, skipped) = (0, 0)
    for record in file.records {
      let n = try record.number("N")
      let cost = ScryptCost(
        log2N: UInt32(n.trailingZeroBitCount), r: UInt32(try record.number("r")), p: UInt32(try record.number("p")))
      guard cost.memory <= 1 << 28 || slow else {
        skipped += 1
        continue
      }
      let text = Array(try record.text("PASSWORD").utf8)
      let passphrase = SecretBytes(copying: text.span)
      let salt = Array(try record.text("SALT").utf8)
      let derived = try PassphraseKDF.unlimited(passphrase: passphrase, salt: salt.span, cost: cost, count: 64)
      let bytes = derived.span.array
      #expect(try bytes == record.bytes("DERIVED_KEY"))
      passed += 1
    }
    #expect(passed == (slow ? 4 : 3))
    report("RFC 7914 scrypt", passed: passed, skipped: skipped)
  }

  @Test func costsBeyondTheLimitsAreRefused() {
    let refused = [(9, 8, 1), (21, 1, 1), (14, 0, 1), (14, 17, 1), (14, 8, 0), (14, 8, 9), (20, 9, 1), (19, 16, 9)]
    for (n, r, p) in refused.map({ (UInt32($0), UInt32($1), UInt32($2)) }) {
      #expect(!ScryptCost(log2N: n, r: r, p: p).isWithinLimits)
    }
    for huge in [UInt32.max, 63, 64, 1 << 31] {
      #expect(!ScryptCost(log2N: huge, r: 1, p: 1).isWithinLimits)
      #expect(!ScryptCost(log2N: 10, r: huge, p: 1).isWithinLimits)
      #expect(!ScryptCost(log2N: 10, r: 1, p: huge).isWithinLimits)
    }
    for (n, r, p) in [(10, 1, 1), (20, 8, 8), (19, 16, 8)] as [(UInt32, UInt32, UInt32)] {
      #expect(ScryptCost(log2N: n, r: r, p: p).isWithinLimits)
    }
    #expect(ScryptCost.default.isWithinLimits)
    #expect(throws: CryptoError.self) {
      _ = try PassphraseKDF.scrypt(
        passphrase: key(8), salt: pattern(16).span, cost: ScryptCost(log2N: 40, r: 8, p: 1), count: 32)
    }
  }

  /// libcrypto's own memory limit, which is set beside ours, must not stand in the way of a cost that we allow.
  @Test func smallestCostWorks() throws {
    let cost = ScryptCost(log2N: 10, r: 1, p: 8)
    let derived = try PassphraseKDF.scrypt(passphrase: key(8), salt: pattern(16).span, cost: cost, count: 32)
    #expect(derived.count == 32)
  }
}

@Suite struct RandomTests {
  @Test func drawsDiffer() throws {
    let (a, b) = (try Random.bytes16(), try Random.bytes16())
    #expect(a != b)
    let first = try Random.secret(count: 32)
    let second = try Random.secret(count: 32)
    let (same, zero) = (first.equals(second), first.span.isZero)
    #expect(!same && !zero)
    var empty: [UInt8] = []
    try Random.fill(empty.mutableSpan)
  }

  /// A libcrypto whose generators fail, in a process of its own: only keys come from them. What a generator in this
  /// process gives after a snapshot is no nonce or salt.
  @Test func onlyKeysComeFromLibcrypto() async {
    await #expect(processExitsWith: .success) {
      CryptoLibrary.load()
      typealias Generator = @convention(c) (UnsafeMutableRawPointer?, Int32) -> Int32
      let fails: Generator = { _, _ in 0 }
      // RAND_METHOD: seed, bytes, cleanup, add, pseudorand, status.
      let method = UnsafeMutablePointer<Generator?>.allocate(capacity: 6)
      unsafe method.initialize(repeating: nil, count: 6)
      unsafe method[1] = fails
      // Deprecated, but there.
      typealias Setter = @convention(c) (UnsafeRawPointer?) -> Int32
      let symbol = try unsafe #require(dlsym(UnsafeMutableRawPointer(bitPattern: 0), "RAND_set_rand_method"))
      try unsafe #require(unsafeBitCast(symbol, to: Setter.self)(method) == 1)
      #expect(throws: CryptoError.self) { _ = try Random.secret(count: 32) }
      var nonces = NonceSource()
      #expect(try Random.bytes16() != Random.bytes16())
      #expect(try nonces.next() != nonces.next())
    }
  }

  /// Across several fillings of the pool no nonce comes twice and none is the zero of a wiped place.
  @Test func noncesDiffer() throws {
    var source = NonceSource()
    var seen: Set<UInt64> = [0]
    for _ in 0..<1000 { #expect(try seen.insert(source.next()).inserted) }
  }
}
