// Random bytes: keys from libcrypto's private generator, which the kernel seeds; all else from the kernel itself.
import CLibcrypto
import CSystem
import Glibc
import Primitives

/// Nonces, salts and identities come from getrandom(2), call by call: what everyone may see tells nothing of the state
/// that keys come from, and two runs of one snapshot of the machine don't get the same numbers, as they would from a
/// generator in this process until it is seeded anew.
public enum Random {
  /// Fills all of `destination` from the kernel.
  public static func fill(_ destination: consuming MutableSpan<UInt8>) throws(CryptoError) {
    let failure = unsafe destination.withUnsafeMutableBytes { bytes -> Int32 in
      var filled = 0
      while filled < bytes.count {
        let count = unsafe csystem_random(bytes.baseAddress.map { unsafe $0 + filled }, bytes.count - filled)
        if count < 0, errno != EINTR { return errno }
        filled += max(count, 0)
      }
      return 0
    }
    guard failure == 0 else { throw .noRandomBytes(failure) }
  }

  /// A key of `count` bytes, from the private generator.
  public static func secret(count: Int) throws(CryptoError) -> SecretBytes {
    precondition(count > 0 && count <= 1 << 16)
    _ = Algorithms.keysAreProtected
    var secret = SecretBytes(count: count)
    var bytes = secret.mutableSpan
    let done = unsafe bytes.withUnsafeMutableBufferPointer { bytes in
      unsafe RAND_priv_bytes(bytes.baseAddress, Int32(bytes.count))
    }
    guard done == 1 else { throw .last("RAND_priv_bytes") }
    return secret
  }

  /// Sixteen public random bytes: a UUID's, an epoch.
  public static func bytes16() throws(CryptoError) -> InlineBytes16 {
    var block = InlineArray<16, UInt8>(repeating: 0)
    try fill(block.mutableSpan)
    return InlineBytes16(block.span)
  }
}
