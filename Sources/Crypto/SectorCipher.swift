// AES-256-XTS over one data unit at a time. The key is set once, for either direction; per data unit only the tweak is.
// Nothing is allocated per call. A failed call leaves the output undefined and the cipher usable.
import CLibcrypto
import Primitives

/// AES-256-XTS (IEEE 1619-2007, SP 800-38E). How sectors map to tweaks is the caller's affair (DESIGN P2).
///
/// A data unit has 16 bytes to 16 MiB and need not be a multiple of 16 (IEEE 1619 §5.3.2, ciphertext stealing).
public struct SectorCipher: ~Copyable, Sendable {
  /// Bytes in a key: the data key, then the tweak key.
  public static let keyCount = 64

  let encryption: CipherContext
  private let decryption: CipherContext

  /// Throws `.equalKeyHalves` where both halves of the 64-byte key are the same, `.unavailable` where libcrypto has
  /// no AES-256-XTS.
  public init(key: borrowing SecretBytes) throws(CryptoError) {
    precondition(key.count == Self.keyCount)
    // libcrypto refuses this too, but for decryption only under FIPS.
    let halves = key.span
    guard !ConstantTime.equals(halves.extracting(first: 32), halves.extracting(last: 32)) else {
      throw .equalKeyHalves
    }
    let encryption = try Self.context(key.span, encrypt: 1)
    let decryption = try Self.context(key.span, encrypt: 0)
    self.encryption = encryption
    self.decryption = decryption
  }

  private static func context(_ key: Span<UInt8>, encrypt: Int32) throws(CryptoError) -> CipherContext {
    guard let cipher = unsafe Algorithms.xts else { throw .unavailable("AES-256-XTS") }
    KeyScope.enter()
    defer { KeyScope.leaveAndWipe() }
    let context = try CipherContext()
    let done = unsafe key.withUnsafeBufferPointer { key in
      unsafe EVP_CipherInit_ex2(context.pointer, cipher, key.baseAddress, nil, encrypt, nil)
    }
    guard done == 1 else { throw .last("setting the AES-256-XTS key") }
    return context
  }

  /// Encrypts one data unit; `ciphertext` has the size of `plaintext`.
  public mutating func encrypt(
    _ plaintext: Span<UInt8>, tweak: InlineBytes16, into ciphertext: consuming MutableSpan<UInt8>
  ) throws(CryptoError) {
    try Self.run(encryption, plaintext, tweak, ciphertext)
  }

  /// Decrypts one data unit; `plaintext` has the size of `ciphertext`. XTS authenticates nothing: verify the tag first.
  public mutating func decrypt(
    _ ciphertext: Span<UInt8>, tweak: InlineBytes16, into plaintext: consuming MutableSpan<UInt8>
  ) throws(CryptoError) {
    try Self.run(decryption, ciphertext, tweak, plaintext)
  }

  private static func run(
    _ context: borrowing CipherContext, _ input: Span<UInt8>, _ tweak: InlineBytes16,
    _ output: consuming MutableSpan<UInt8>
  ) throws(CryptoError) {
    precondition(input.count == output.count && input.count >= 16 && input.count <= 1 << 24)
    var block = InlineArray<16, UInt8>(repeating: 0)
    var bytes = block.mutableSpan
    tweak.store(in: &bytes, at: 0)
    let tweaked = unsafe bytes.withUnsafeBufferPointer { bytes in
      unsafe EVP_CipherInit_ex2(context.pointer, nil, nil, bytes.baseAddress, -1, nil)
    }
    guard tweaked == 1 else { throw .last("setting the AES-256-XTS tweak") }
    let done = unsafe input.withUnsafeBufferPointer { input in
      unsafe output.withUnsafeMutableBufferPointer { output in
        var written: Int32 = 0
        let result = unsafe EVP_CipherUpdate(
          context.pointer, output.baseAddress, &written, input.baseAddress, Int32(input.count))
        return result == 1 && Int(written) == input.count
      }
    }
    guard done else { throw .last("AES-256-XTS") }
  }
}
