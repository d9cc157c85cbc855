// SHA-256 of public data, in one call or in pieces.
import CLibcrypto
import Primitives

/// SHA-256 (FIPS 180-4). `update` any number of times, then `finish`, which leaves it ready for another message.
@safe public struct Digest: ~Copyable, Sendable {
  private nonisolated(unsafe) let pointer: OpaquePointer

  public init() throws(CryptoError) {
    guard let algorithm = unsafe Algorithms.sha256 else { throw .unavailable("SHA-256") }
    // A recovery key has a digest too.
    KeyScope.enter()
    defer { KeyScope.leave() }
    guard let new = unsafe EVP_MD_CTX_new() else { throw .last("EVP_MD_CTX_new") }
    guard unsafe EVP_DigestInit_ex2(new, algorithm, nil) == 1 else {
      unsafe EVP_MD_CTX_free(new)
      throw .last("EVP_DigestInit_ex2")
    }
    unsafe pointer = new
  }

  deinit { unsafe EVP_MD_CTX_free(pointer) }

  public mutating func update(_ bytes: Span<UInt8>) throws(CryptoError) {
    let done = unsafe bytes.withUnsafeBufferPointer { bytes in
      unsafe EVP_DigestUpdate(pointer, bytes.baseAddress, bytes.count)
    }
    guard done == 1 else { throw .last("EVP_DigestUpdate") }
  }

  public mutating func finish() throws(CryptoError) -> InlineBytes32 {
    var digest = InlineArray<32, UInt8>(repeating: 0)
    var output = digest.mutableSpan
    let done = unsafe output.withUnsafeMutableBufferPointer { output in
      unsafe EVP_DigestFinal_ex(pointer, output.baseAddress, nil)
    }
    guard done == 1, unsafe EVP_DigestInit_ex2(pointer, nil, nil) == 1 else { throw .last("EVP_DigestFinal_ex") }
    return InlineBytes32(digest.span)
  }

  /// The digest of one piece.
  public static func sha256(_ bytes: Span<UInt8>) throws(CryptoError) -> InlineBytes32 {
    var digest = try Digest()
    try digest.update(bytes)
    return try digest.finish()
  }

  /// The digest of two pieces, one after the other.
  public static func sha256(_ first: Span<UInt8>, _ second: Span<UInt8>) throws(CryptoError) -> InlineBytes32 {
    var digest = try Digest()
    try digest.update(first)
    try digest.update(second)
    return try digest.finish()
  }
}
