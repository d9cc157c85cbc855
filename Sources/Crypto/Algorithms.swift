// libcrypto's algorithms, fetched once per process from the default library context, so that whatever provider the
// host has configured (the FIPS one, say) is the one that works; and the owners of its contexts. libcrypto wipes a
// context's key when it frees it, and contexts lie in protected memory (`KeyScope`).
import CLibcrypto
import Glibc
import Primitives

/// The fetched algorithms. Immutable once fetched, and shared by all threads: libcrypto counts references atomically.
///
/// All of them are fetched at once, before the first key is there: what libcrypto keeps of an algorithm for as long as
/// the process runs has no place in the memory for keys. Hence also those that libcrypto fetches by itself later.
@safe struct Algorithms: @unchecked Sendable {
  private static let shared = Algorithms()

  static var xts: OpaquePointer? { unsafe shared.xts }
  static var gcm: OpaquePointer? { unsafe shared.gcm }
  static var cmac: OpaquePointer? { unsafe shared.cmac }
  static var hmac: OpaquePointer? { unsafe shared.hmac }
  static var sha256: OpaquePointer? { unsafe shared.sha256 }
  static var hkdf: OpaquePointer? { unsafe shared.hkdf }
  /// AES-256-ECB, for tags side by side. Nil also in FIPS mode, and where it is the FIPS provider's: a store can do
  /// without.
  static var ecb: OpaquePointer? { unsafe shared.ecb }
  /// What a store can't do without and libcrypto doesn't hand out.
  static var missing: [String] {
    let all: [(String, OpaquePointer?)] = unsafe [
      ("AES-256-XTS", xts), ("AES-256-GCM", gcm), ("CMAC", cmac), ("HMAC", hmac), ("SHA-256", sha256), ("HKDF", hkdf),
    ]
    return unsafe all.filter { unsafe $0.1 == nil }.map { unsafe $0.0 }
  }

  /// Whether libcrypto allocates through `KeyScope`. Asking fetches the algorithms.
  static var keysAreProtected: Bool { shared.keysAreProtected }

  private let keysAreProtected: Bool
  private let xts: OpaquePointer?
  private let gcm: OpaquePointer?
  private let cmac: OpaquePointer?
  private let hmac: OpaquePointer?
  private let sha256: OpaquePointer?
  private let hkdf: OpaquePointer?
  private let ecb: OpaquePointer?
  // CMAC's and scrypt's, which libcrypto fetches by name.
  private let cbc: OpaquePointer?
  private let scrypt: OpaquePointer?

  private init() {
    keysAreProtected = KeyScope.install()
    unsafe xts = EVP_CIPHER_fetch(nil, "AES-256-XTS", nil)
    unsafe gcm = EVP_CIPHER_fetch(nil, "AES-256-GCM", nil)
    unsafe cbc = EVP_CIPHER_fetch(nil, "AES-256-CBC", nil)
    unsafe cmac = EVP_MAC_fetch(nil, "CMAC", nil)
    unsafe hmac = EVP_MAC_fetch(nil, "HMAC", nil)
    unsafe sha256 = EVP_MD_fetch(nil, "SHA256", nil)
    unsafe hkdf = EVP_KDF_fetch(nil, "HKDF", nil)
    unsafe scrypt = EVP_KDF_fetch(nil, "SCRYPT", nil)
    unsafe ecb = Self.fetchECB()
    // What isn't there is reported when it is asked for.
    ERR_clear_error()
  }

  private static func fetchECB() -> OpaquePointer? {
    guard !FIPSMode.isOn, let ecb = unsafe EVP_CIPHER_fetch(nil, "AES-256-ECB", nil) else { return nil }
    guard let name = unsafe OSSL_PROVIDER_get0_name(EVP_CIPHER_get0_provider(ecb)), unsafe strcmp(name, "fips") != 0
    else {
      unsafe EVP_CIPHER_free(ecb)
      return nil
    }
    return unsafe ecb
  }
}

/// Names for OSSL_PARAM, which keeps the pointer: a Swift string's would be gone when the call returns.
enum ParameterName {
  static let cipher: StaticString = "cipher"
  static let digest: StaticString = "digest"
  static let key: StaticString = "key"
  static let salt: StaticString = "salt"
  static let info: StaticString = "info"
  static let aes256CBC: StaticString = "AES-256-CBC"
  static let sha256: StaticString = "SHA256"

  @unsafe static func pointer(_ name: StaticString) -> UnsafePointer<CChar> {
    unsafe UnsafeRawPointer(name.utf8Start).assumingMemoryBound(to: CChar.self)
  }

  @unsafe static func text(_ name: StaticString, _ value: StaticString) -> OSSL_PARAM {
    unsafe OSSL_PARAM_construct_utf8_string(pointer(name), UnsafeMutablePointer(mutating: pointer(value)), 0)
  }

  /// libcrypto only reads the bytes; its type says otherwise. They must outlive the parameter.
  @unsafe static func bytes(_ name: StaticString, _ value: UnsafeBufferPointer<UInt8>) -> OSSL_PARAM {
    unsafe OSSL_PARAM_construct_octet_string(
      pointer(name), UnsafeMutableRawPointer(mutating: value.baseAddress), value.count)
  }
}

extension CryptoError {
  /// What libcrypto's error queue says about `operation`; the queue is emptied, so that an old reason can't turn up
  /// under a later failure.
  static func last(_ operation: String) -> CryptoError {
    let code = ERR_get_error()
    ERR_clear_error()
    guard !KeyScope.ranOut() else { return .outOfKeyMemory }
    guard code != 0, let reason = unsafe ERR_reason_error_string(code) else { return .failed(operation) }
    return .failed("\(operation): \(unsafe String(cString: reason))")
  }
}

/// Owner of an EVP_CIPHER_CTX.
@safe struct CipherContext: ~Copyable, Sendable {
  // Sole owner; used by one thread at a time because every use is through a mutating method of what holds it.
  nonisolated(unsafe) let pointer: OpaquePointer

  init() throws(CryptoError) {
    guard let new = unsafe EVP_CIPHER_CTX_new() else { throw .last("EVP_CIPHER_CTX_new") }
    unsafe pointer = new
  }

  deinit { unsafe EVP_CIPHER_CTX_free(pointer) }
}

/// Owner of an EVP_MAC_CTX.
@safe struct MACContext: ~Copyable, Sendable {
  nonisolated(unsafe) let pointer: OpaquePointer

  /// `algorithm` is nil where libcrypto doesn't have it.
  init(_ algorithm: OpaquePointer?, _ name: String) throws(CryptoError) {
    guard let algorithm = unsafe algorithm else { throw .unavailable(name) }
    guard let new = unsafe EVP_MAC_CTX_new(algorithm) else { throw .last("EVP_MAC_CTX_new") }
    unsafe pointer = new
  }

  deinit { unsafe EVP_MAC_CTX_free(pointer) }

  /// Sets the algorithm within the MAC (a cipher or a digest) and the key: the one key schedule.
  func setKey(_ key: Span<UInt8>, _ name: StaticString, _ value: StaticString) throws(CryptoError) {
    var parameters = unsafe (ParameterName.text(name, value), OSSL_PARAM_construct_end())
    let done = unsafe withUnsafeMutablePointer(to: &parameters) { pair in
      unsafe pair.withMemoryRebound(to: OSSL_PARAM.self, capacity: 2) { list in
        unsafe key.withUnsafeBufferPointer { key in
          unsafe EVP_MAC_init(pointer, key.baseAddress, key.count, list)
        }
      }
    }
    guard done == 1 else { throw .last("EVP_MAC_init") }
  }

  /// Starts over under the key that is set. HMAC copies its state under the key for each message, here and at the end.
  func restart() throws(CryptoError) {
    KeyScope.enter()
    defer { KeyScope.leave() }
    guard unsafe EVP_MAC_init(pointer, nil, 0, nil) == 1 else { throw .last("EVP_MAC_init") }
  }

  func update(_ bytes: Span<UInt8>) throws(CryptoError) {
    let done = unsafe bytes.withUnsafeBufferPointer { bytes in
      unsafe EVP_MAC_update(pointer, bytes.baseAddress, bytes.count)
    }
    guard done == 1 else { throw .last("EVP_MAC_update") }
  }

  /// The MAC into all of `output`, which has its exact size.
  func finish(into output: consuming MutableSpan<UInt8>) throws(CryptoError) {
    KeyScope.enter()
    defer { KeyScope.leave() }
    let done = unsafe output.withUnsafeMutableBufferPointer { output in
      var written = 0
      let result = unsafe EVP_MAC_final(pointer, output.baseAddress, &written, output.count)
      return result == 1 && written == output.count
    }
    guard done else { throw .last("EVP_MAC_final") }
  }
}
