// Keys from passwords as another format makes them. vnvram's own slots use scrypt (`PassphraseKDF`).
import CLibcrypto
import Primitives

/// SHA-512 and PBKDF2 of passwords: fast to guess at, and so only for reading and writing what others made.
public enum PasswordHash {
  /// The first `count` bytes, at most 64, of SHA-512 (FIPS 180-4) over the password.
  public static func sha512(_ password: borrowing SecretBytes, count: Int) throws(CryptoError) -> SecretBytes {
    precondition((1...64).contains(count))
    // The rest of the process's algorithms come first.
    _ = Algorithms.keysAreProtected
    guard let algorithm = unsafe EVP_MD_fetch(nil, "SHA512", nil) else { throw .unavailable("SHA-512") }
    defer { unsafe EVP_MD_free(algorithm) }
    KeyScope.enter()
    defer { KeyScope.leaveAndWipe() }
    var digest = SecretBytes(count: 64)
    var output = digest.mutableSpan
    let span = password.span
    let done = unsafe output.withUnsafeMutableBufferPointer { output in
      unsafe span.withUnsafeBufferPointer { password in
        unsafe EVP_Digest(password.baseAddress, password.count, output.baseAddress, nil, algorithm, nil)
      }
    }
    guard done == 1 else { throw .last("SHA-512") }
    return digest.prefix(count)
  }

  /// `count` bytes of PBKDF2-HMAC-SHA-512 (RFC 8018 §5.2).
  public static func pbkdf2SHA512(
    _ password: borrowing SecretBytes, salt: Span<UInt8>, iterations: Int32, count: Int
  ) throws(CryptoError) -> SecretBytes {
    precondition(count > 0 && count <= 1024 && iterations > 0)
    // The rest of the process's algorithms come first.
    _ = Algorithms.keysAreProtected
    guard let algorithm = unsafe EVP_MD_fetch(nil, "SHA512", nil) else { throw .unavailable("SHA-512") }
    defer { unsafe EVP_MD_free(algorithm) }
    KeyScope.enter()
    defer { KeyScope.leaveAndWipe() }
    var derived = SecretBytes(count: count)
    var output = derived.mutableSpan
    let span = password.span
    let done = unsafe output.withUnsafeMutableBufferPointer { output in
      unsafe span.withUnsafeBufferPointer { password in
        unsafe salt.withUnsafeBufferPointer { salt in
          unsafe PKCS5_PBKDF2_HMAC(
            UnsafeRawPointer(password.baseAddress)?.assumingMemoryBound(to: CChar.self), Int32(password.count),
            salt.baseAddress, Int32(salt.count), iterations, algorithm, Int32(count), output.baseAddress)
        }
      }
    }
    guard done == 1 else { throw .last("PBKDF2") }
    return derived
  }
}
