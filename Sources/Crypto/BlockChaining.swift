// What another format asks for and vnvram's own does not use: AES-CBC, and HMAC-SHA-256 under keys of other lengths.
import CLibcrypto
import Primitives

/// AES-CBC (SP 800-38A §6.2) with keys of 16 or 32 bytes, without padding: who calls pads. It authenticates nothing; a
/// MAC over the ciphertext is checked first.
public enum BlockChaining {
  public static let blockCount = 16

  /// After the algorithms that the rest of the process uses, which are fetched first (`Algorithms`). Unchecked, since
  /// what libcrypto has fetched never changes, any thread may use it (openssl-threads(7)), and it is never freed.
  @safe private struct Ciphers: @unchecked Sendable {
    static let shared = Ciphers()
    let aes128: OpaquePointer?
    let aes256: OpaquePointer?

    init() {
      _ = Algorithms.keysAreProtected
      unsafe aes128 = EVP_CIPHER_fetch(nil, "AES-128-CBC", nil)
      unsafe aes256 = EVP_CIPHER_fetch(nil, "AES-256-CBC", nil)
      ERR_clear_error()
    }
  }

  public enum Direction: Int32, Sendable {
    case decrypt = 0
    case encrypt = 1
  }

  /// Runs over whole blocks. `input` and `output` have the same size, a multiple of 16; `vector` has 16 bytes.
  public static func run(
    _ direction: Direction, _ input: Span<UInt8>, key: borrowing SecretBytes, vector: Span<UInt8>,
    into output: consuming MutableSpan<UInt8>
  ) throws(CryptoError) {
    precondition(input.count % blockCount == 0 && output.count == input.count && vector.count == blockCount)
    precondition(key.count == 16 || key.count == 32)
    guard input.count > 0 else { return }
    let ciphers = Ciphers.shared
    guard let cipher = unsafe key.count == 16 ? ciphers.aes128 : ciphers.aes256 else {
      throw .unavailable("AES-\(key.count * 8)-CBC")
    }
    KeyScope.enter()
    defer { KeyScope.leaveAndWipe() }
    let context = try CipherContext()
    let keySpan = key.span
    let keyed = unsafe keySpan.withUnsafeBufferPointer { key in
      unsafe vector.withUnsafeBufferPointer { vector in
        unsafe EVP_CipherInit_ex2(context.pointer, cipher, key.baseAddress, vector.baseAddress, direction.rawValue, nil)
      }
    }
    guard keyed == 1, unsafe EVP_CIPHER_CTX_set_padding(context.pointer, 0) == 1 else {
      throw .last("setting the AES-CBC key")
    }
    let done = unsafe output.withUnsafeMutableBufferPointer { output in
      unsafe input.withUnsafeBufferPointer { input in
        var (first, last): (Int32, Int32) = (0, 0)
        guard
          unsafe EVP_CipherUpdate(context.pointer, output.baseAddress, &first, input.baseAddress, Int32(input.count))
            == 1,
          unsafe EVP_CipherFinal_ex(context.pointer, output.baseAddress.map { unsafe $0 + Int(first) }, &last) == 1
        else { return false }
        return Int(first + last) == input.count
      }
    }
    guard done else { throw .last("AES-CBC") }
  }
}

/// HMAC-SHA-256 (RFC 2104) under a key of any length, over two pieces, one after the other.
public enum ForeignMAC {
  public static func hmacSHA256(
    _ first: Span<UInt8>, _ second: Span<UInt8>, key: borrowing SecretBytes
  ) throws(CryptoError) -> InlineBytes32 {
    KeyScope.enter()
    defer { KeyScope.leaveAndWipe() }
    var mac = try StructureMAC(anyLength: key)
    try mac.start()
    try mac.update(first)
    if second.count > 0 { try mac.update(second) }
    return try mac.finish()
  }
}
