// Random bytes from libcrypto's generators, which the kernel seeds.
import CLibcrypto
import Primitives

/// Keys come from the private generator (RAND_priv_bytes), nonces, salts and identities from the public one, so that
/// what everyone may see tells nothing of the state that keys come from.
public enum Random {
  /// Fills all of `destination` from the public generator.
  public static func fill(_ destination: consuming MutableSpan<UInt8>) throws(CryptoError) {
    precondition(destination.count <= Int(Int32.max))
    _ = Algorithms.keysAreProtected
    let done = unsafe destination.withUnsafeMutableBufferPointer { bytes in
      unsafe bytes.isEmpty ? 1 : RAND_bytes(bytes.baseAddress, Int32(bytes.count))
    }
    guard done == 1 else { throw .last("RAND_bytes") }
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

  /// Thirty-two public random bytes: a salt.
  public static func bytes32() throws(CryptoError) -> InlineBytes32 {
    var block = InlineArray<32, UInt8>(repeating: 0)
    try fill(block.mutableSpan)
    return InlineBytes32(block.span)
  }
}
