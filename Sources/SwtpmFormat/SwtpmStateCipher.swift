import Crypto
import Primitives

/// What a key does with a state: encrypt it, or decrypt it. The key itself may lie in another process.
public protocol SwtpmStateCipher: Sendable {
  /// The key's size, 16 or 32 bytes.
  var count: Int { get }

  func seal(_ plaintext: Span<UInt8>) throws(SwtpmFormatError) -> SwtpmSealed

  /// - Parameters:
  ///   - mac: what the blob has; what is behind its first 32 bytes doesn't count.
  ///   - vector: empty in the oldest blobs.
  /// - Throws: `.wrongKey` where it doesn't verify.
  func open(
    _ ciphertext: Span<UInt8>, mac: Span<UInt8>, vector: Span<UInt8>, as use: SwtpmFormatError.KeyUse
  ) throws(SwtpmFormatError) -> SecretBytes
}

/// A state that was encrypted: the content of three fields.
public struct SwtpmSealed: Sendable {
  public let ciphertext: [UInt8]
  /// 32 bytes.
  public let mac: [UInt8]
  /// As long as the key.
  public let vector: [UInt8]

  public init(ciphertext: [UInt8], mac: [UInt8], vector: [UInt8]) {
    (self.ciphertext, self.mac, self.vector) = (ciphertext, mac, vector)
  }
}

extension SwtpmKey: SwtpmStateCipher {
  public func seal(_ plaintext: Span<UInt8>) throws(SwtpmFormatError) -> SwtpmSealed {
    do throws(CryptoError) { return try sealed(plaintext) } catch { throw .crypto(error) }
  }

  public func open(
    _ ciphertext: Span<UInt8>, mac: Span<UInt8>, vector: Span<UInt8>, as use: SwtpmFormatError.KeyUse
  ) throws(SwtpmFormatError) -> SecretBytes {
    let plaintext: SecretBytes?
    do throws(CryptoError) { plaintext = try opened(ciphertext, mac: mac, vector: vector) } catch {
      throw .crypto(error)
    }
    switch consume plaintext {
    case .some(let plaintext): return plaintext
    case .none: throw .wrongKey(use)
    }
  }
}
