// A key under a key. Rare (once per slot and opening), so each call makes its own context.
import CLibcrypto
import Primitives

/// AES-256-GCM (SP 800-38D) with a 12-byte nonce and a 16-byte tag. A nonce must never come twice under one key: in a
/// slot the key is derived with the slot's own fresh salt.
public enum KeyWrap {
  public static let keyCount = 32
  public static let nonceCount = 12

  /// Encrypts `plaintext` into `ciphertext`, which has its size, and returns the tag.
  public static func seal(
    _ plaintext: borrowing SecretBytes, key: borrowing SecretBytes, nonce: Span<UInt8>, associatedData: Span<UInt8>,
    ciphertext: consuming MutableSpan<UInt8>
  ) throws(CryptoError) -> InlineBytes16 {
    precondition(ciphertext.count == plaintext.count)
    guard let cipher = unsafe Algorithms.gcm else { throw .unavailable("AES-256-GCM") }
    KeyScope.enter()
    defer { KeyScope.leaveAndWipe() }
    let context = try unsafe begin(cipher, key: key, nonce: nonce, associatedData: associatedData, encrypt: 1)
    var output = ciphertext
    try run(context, plaintext.span, &output)
    var tag = InlineArray<16, UInt8>(repeating: 0)
    var bytes = tag.mutableSpan
    let done = unsafe bytes.withUnsafeMutableBufferPointer { tag in
      var unused: Int32 = 0
      // At the end of a GCM message nothing is left to write; what is written would go to the tag's place.
      guard unsafe EVP_EncryptFinal_ex(context.pointer, tag.baseAddress, &unused) == 1, unused == 0 else {
        return false
      }
      return unsafe EVP_CIPHER_CTX_ctrl(context.pointer, EVP_CTRL_AEAD_GET_TAG, 16, tag.baseAddress) == 1
    }
    guard done else { throw .last("AES-256-GCM tag") }
    return InlineBytes16(tag.span)
  }

  /// Decrypts `ciphertext`. Nil where the tag doesn't verify: another key, or a changed nonce, ciphertext, associated
  /// data or tag; nothing of the plaintext is given out then.
  public static func open(
    ciphertext: Span<UInt8>, tag: InlineBytes16, key: borrowing SecretBytes, nonce: Span<UInt8>,
    associatedData: Span<UInt8>
  ) throws(CryptoError) -> SecretBytes? {
    guard let cipher = unsafe Algorithms.gcm else { throw .unavailable("AES-256-GCM") }
    KeyScope.enter()
    defer { KeyScope.leaveAndWipe() }
    let context = try unsafe begin(cipher, key: key, nonce: nonce, associatedData: associatedData, encrypt: 0)
    var plaintext = SecretBytes(count: ciphertext.count)
    var output = plaintext.mutableSpan
    try run(context, ciphertext, &output)
    var block = InlineArray<16, UInt8>(repeating: 0)
    var bytes = block.mutableSpan
    tag.store(in: &bytes, at: 0)
    let (set, verified) = unsafe bytes.withUnsafeMutableBufferPointer { tag in
      guard unsafe EVP_CIPHER_CTX_ctrl(context.pointer, EVP_CTRL_AEAD_SET_TAG, 16, tag.baseAddress) == 1 else {
        return (false, false)
      }
      var unused: Int32 = 0
      return (true, unsafe EVP_DecryptFinal_ex(context.pointer, tag.baseAddress, &unused) == 1)
    }
    guard set else { throw .last("setting the AES-256-GCM tag") }
    guard verified else {
      ERR_clear_error()
      return nil
    }
    return plaintext
  }

  private static func begin(
    _ cipher: OpaquePointer, key: borrowing SecretBytes, nonce: Span<UInt8>, associatedData: Span<UInt8>, encrypt: Int32
  ) throws(CryptoError) -> CipherContext {
    precondition(key.count == keyCount && nonce.count == nonceCount && associatedData.count <= Int(Int32.max))
    let context = try CipherContext()
    let keySpan = key.span
    // 12 bytes is the length of a GCM nonce unless another is asked for.
    let keyed = unsafe keySpan.withUnsafeBufferPointer { key in
      unsafe nonce.withUnsafeBufferPointer { nonce in
        unsafe EVP_CipherInit_ex2(context.pointer, cipher, key.baseAddress, nonce.baseAddress, encrypt, nil)
      }
    }
    guard keyed == 1 else { throw .last("setting the AES-256-GCM key") }
    guard associatedData.count > 0 else { return context }
    let added = unsafe associatedData.withUnsafeBufferPointer { data in
      var count: Int32 = 0
      return unsafe EVP_CipherUpdate(context.pointer, nil, &count, data.baseAddress, Int32(data.count))
    }
    guard added == 1 else { throw .last("AES-256-GCM associated data") }
    return context
  }

  private static func run(
    _ context: borrowing CipherContext, _ input: Span<UInt8>, _ output: inout MutableSpan<UInt8>
  ) throws(CryptoError) {
    precondition(input.count > 0 && input.count <= 1 << 16)
    let done = unsafe input.withUnsafeBufferPointer { input in
      unsafe output.withUnsafeMutableBufferPointer { output in
        var written: Int32 = 0
        let result = unsafe EVP_CipherUpdate(
          context.pointer, output.baseAddress, &written, input.baseAddress, Int32(input.count))
        return result == 1 && Int(written) == input.count
      }
    }
    guard done else { throw .last("AES-256-GCM") }
  }
}
