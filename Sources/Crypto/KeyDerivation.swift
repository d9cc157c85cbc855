// Keys from a key.
import CLibcrypto
import Primitives

/// HKDF-SHA-256 (RFC 5869), extract and expand in one.
public enum KeyDerivation {
  /// `count` bytes, 1 to 8160, from `key` (not empty). An empty salt counts as 32 zero bytes (RFC 5869 §2.2).
  public static func hkdf(
    key: borrowing SecretBytes, salt: Span<UInt8>, info: Span<UInt8>, count: Int
  ) throws(CryptoError) -> SecretBytes {
    precondition(key.count > 0 && count > 0 && count <= 255 * 32)
    guard let algorithm = unsafe Algorithms.hkdf else { throw .unavailable("HKDF") }
    KeyScope.enter()
    defer { KeyScope.leaveAndWipe() }
    guard let context = unsafe EVP_KDF_CTX_new(algorithm) else { throw .last("EVP_KDF_CTX_new") }
    defer { unsafe EVP_KDF_CTX_free(context) }
    var derived = SecretBytes(count: count)
    var output = derived.mutableSpan
    let keySpan = key.span
    let done = unsafe output.withUnsafeMutableBufferPointer { output in
      unsafe keySpan.withUnsafeBufferPointer { key in
        unsafe salt.withUnsafeBufferPointer { salt in
          unsafe info.withUnsafeBufferPointer { info in
            unsafe run(context, output, key, salt, info)
          }
        }
      }
    }
    guard done == 1 else { throw .last("HKDF") }
    return derived
  }

  @unsafe private static func run(
    _ context: OpaquePointer, _ output: UnsafeMutableBufferPointer<UInt8>, _ key: UnsafeBufferPointer<UInt8>,
    _ salt: UnsafeBufferPointer<UInt8>, _ info: UnsafeBufferPointer<UInt8>
  ) -> Int32 {
    unsafe withUnsafeTemporaryAllocation(of: OSSL_PARAM.self, capacity: 5) { list in
      unsafe list[0] = ParameterName.text(ParameterName.digest, ParameterName.sha256)
      unsafe list[1] = ParameterName.bytes(ParameterName.key, key)
      var next = 2
      // An absent parameter is what libcrypto takes for an empty one.
      if salt.count > 0 {
        unsafe list[next] = ParameterName.bytes(ParameterName.salt, salt)
        next += 1
      }
      if info.count > 0 {
        unsafe list[next] = ParameterName.bytes(ParameterName.info, info)
        next += 1
      }
      unsafe list[next] = OSSL_PARAM_construct_end()
      return unsafe EVP_KDF_derive(context, output.baseAddress, output.count, list.baseAddress)
    }
  }
}
