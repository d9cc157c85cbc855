// A key from a passphrase. The cost comes from an image's header, so it is limited before any memory is taken for it.
import CLibcrypto
import Primitives

/// What one guess at a passphrase costs (RFC 7914 §6): N = 2^`log2N`, block size `r`, parallelism `p`.
public struct ScryptCost: Hashable, Sendable {
  public var log2N: UInt32
  public var r: UInt32
  public var p: UInt32

  public init(log2N: UInt32, r: UInt32, p: UInt32) {
    (self.log2N, self.r, self.p) = (log2N, r, p)
  }

  /// N = 2^17, r = 8, p = 1: 128 MiB and 0.44 s per guess where this was written (2^16: 0.18 s, 2^18: 1.0 s and 256
  /// MiB, too much for a small host that starts many VMs). It is also what OWASP's password storage guide asks for.
  public static let `default` = ScryptCost(log2N: 17, r: 8, p: 1)

  /// The most memory that one derivation may take, in bytes.
  public static let memoryLimit: UInt64 = 1 << 30

  /// 128 · r · N, in bytes. Only for a `log2N` within the limits.
  public var memory: UInt64 { 128 * UInt64(r) << UInt64(log2N) }

  /// Whether this program takes it on: log2N 10 to 20, r 1 to 16, p 1 to 8, at most 1 GiB.
  public var isWithinLimits: Bool {
    (10...20).contains(log2N) && (1...16).contains(r) && (1...8).contains(p) && memory <= Self.memoryLimit
  }
}

/// scrypt (RFC 7914).
public enum PassphraseKDF {
  /// `count` bytes, 1 to 1024. Throws `.costOutOfRange`, before memory is taken, for a cost that isn't within the
  /// limits, and where the memory can't be had.
  public static func scrypt(
    passphrase: borrowing SecretBytes, salt: Span<UInt8>, cost: ScryptCost, count: Int
  ) throws(CryptoError) -> SecretBytes {
    guard cost.isWithinLimits else {
      throw .costOutOfRange(
        "log2 N \(cost.log2N), r \(cost.r), p \(cost.p) is not within the limits "
          + "(log2 N 10 to 20, r 1 to 16, p 1 to 8, 1 GiB)")
    }
    return try unlimited(passphrase: passphrase, salt: salt, cost: cost, count: count)
  }

  /// Without the limits, for published vectors below them.
  static func unlimited(
    passphrase: borrowing SecretBytes, salt: Span<UInt8>, cost: ScryptCost, count: Int
  ) throws(CryptoError) -> SecretBytes {
    precondition(count > 0 && count <= 1024 && cost.log2N < 32)
    _ = Algorithms.keysAreProtected
    KeyScope.enter()
    defer { KeyScope.leaveAndWipe() }
    var derived = SecretBytes(count: count)
    var output = derived.mutableSpan
    let passphraseSpan = passphrase.span
    let done = unsafe output.withUnsafeMutableBufferPointer { output in
      unsafe passphraseSpan.withUnsafeBufferPointer { passphrase in
        unsafe salt.withUnsafeBufferPointer { salt in
          // libcrypto counts its working blocks too, less than 1 MiB within the limits.
          unsafe EVP_PBE_scrypt(
            UnsafeRawPointer(passphrase.baseAddress)?.assumingMemoryBound(to: CChar.self), passphrase.count,
            salt.baseAddress, salt.count, 1 << UInt64(cost.log2N), UInt64(cost.r), UInt64(cost.p),
            ScryptCost.memoryLimit + 1 << 20, output.baseAddress, output.count)
        }
      }
    }
    guard done == 1 else {
      throw .costOutOfRange("\(CryptoError.last("derivation")) (it takes \(cost.memory >> 20) MiB)")
    }
    return derived
  }
}
