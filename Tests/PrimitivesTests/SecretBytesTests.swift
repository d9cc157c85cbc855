import Testing

@testable import Primitives

@Suite struct SecretBytesTests {
  static func make(_ count: Int, _ byte: UInt8) -> SecretBytes {
    SecretBytes(copying: [UInt8](repeating: byte, count: count).span)
  }

  /// The memory stays the process's own after a secret is gone, so one can look. Another test may have it by then, so
  /// what is looked for is that nothing of the secret is left.
  @Test func wipedWhenFreed() {
    let pattern = (0..<200).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ 13) }
    func address() -> UInt {
      let secret = SecretBytes(copying: pattern.span)
      let held = secret.span.array
      #expect(held == pattern)
      return unsafe secret.span.withUnsafeBufferPointer { UInt(bitPattern: $0.baseAddress) }
    }
    let place = address()
    let left = unsafe UnsafePointer<UInt8>(bitPattern: place).map { start in
      (0..<200).count { unsafe start[$0] == pattern[$0] && pattern[$0] != 0 }
    }
    #expect((left ?? 200) < 20)
  }

  @Test func freshIsZeroAlsoWhereASecretWas() {
    for count in [1, 31, 32, 64, 65, 4096] {
      do { _ = Self.make(count, 0xAA) }
      let fresh = SecretBytes(count: count)
      let zero = fresh.span.isZero
      #expect(zero && fresh.count == count)
    }
  }

  @Test func equality() {
    let a = Self.make(32, 1)
    let same = a.equals(Self.make(32, 1))
    let (other, shorter) = (a.equals(Self.make(32, 2)), a.equals(Self.make(31, 1)))
    #expect(same && !other && !shorter)
    for bit in 0..<256 {
      var changed = Self.make(32, 1)
      var bytes = changed.mutableSpan
      bytes[bit / 8] ^= 1 << UInt8(bit % 8)
      let equal = a.equals(changed)
      #expect(!equal)
    }
  }

  @Test func prefix() {
    let short = Self.make(64, 5).prefix(16)
    let content = short.span.array
    #expect(content == [UInt8](repeating: 5, count: 16))
  }

  @Test func manyAtOnceDoNotOverlap() {
    func nest(_ depth: UInt8) -> Bool {
      let secret = Self.make(100, depth)
      let inner = depth == 0 || nest(depth - 1)
      return inner && secret.span.array == [UInt8](repeating: depth, count: 100)
    }
    let intact = nest(100)
    #expect(intact)
  }

  @Test func protection() {
    print("secrets are protected by \(SecretBytes.protection)")
    #expect(["memfd_secret", "mlock", "madvise"].contains(SecretBytes.protection))
  }

  @Test func wipingAnArray() {
    var bytes: [UInt8] = [1, 2, 3]
    wipe(&bytes)
    #expect(bytes.isEmpty)
  }
}
