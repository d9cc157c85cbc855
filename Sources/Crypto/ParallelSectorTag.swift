// CMAC of several messages side by side, through libcrypto's AES-256-ECB. Within a message each block waits for the one
// before; across messages none does, so that one call over a block of each keeps the processor's AES units busy.
//
// The one exception to writing no cryptography. It is checked against EVP's CMAC before its first use in a process
// (`SectorTag`), and EVP's CMAC does it all where the two don't agree.
import CLibcrypto
import Glibc
import Primitives

/// AES-256-CMAC (SP 800-38B §6.2) of up to `mostLanes` messages of one length. All are of whole blocks, so that K1 is
/// the only subkey that is needed.
///
/// Chaining values are as good as the key for who would forge a tag: each is in protected memory, and wiped in the end.
struct ParallelSectorTag: ~Copyable, Sendable {
  static let mostLanes = 16
  static let block = 16
  static let prefixCount = 32
  private static let subkey = mostLanes * block

  private let cipher: CipherContext
  /// A block for each lane, zero between calls, since that is the chaining value a message begins with; then K1.
  private(set) var state: SecretBytes

  init(key: borrowing SecretBytes) throws(CryptoError) {
    let cipher = try Self.keyed(key)
    let state = try Self.start(cipher)
    self.cipher = cipher
    self.state = state
  }

  private static func keyed(_ key: borrowing SecretBytes) throws(CryptoError) -> CipherContext {
    precondition(key.count == SectorTag.keyCount)
    guard let ecb = unsafe Algorithms.ecb else { throw .unavailable("AES-256-ECB") }
    KeyScope.enter()
    defer { KeyScope.leaveAndWipe() }
    let context = try CipherContext()
    let key = key.span
    let keyed = unsafe key.withUnsafeBufferPointer { key in
      unsafe EVP_CipherInit_ex2(context.pointer, ecb, key.baseAddress, nil, 1, nil)
    }
    guard keyed == 1, unsafe EVP_CIPHER_CTX_set_padding(context.pointer, 0) == 1 else {
      throw .last("setting the AES-256-ECB key")
    }
    return context
  }

  /// The state before the first message, with K1: the double in GF(2^128) of the encrypted zero block (§6.1).
  private static func start(_ cipher: borrowing CipherContext) throws(CryptoError) -> SecretBytes {
    KeyScope.enter()
    defer { KeyScope.leaveAndWipe() }
    let cipher = unsafe cipher.pointer
    var state = SecretBytes(count: (mostLanes + 1) * block)
    var bytes = state.mutableSpan
    let done = unsafe bytes.withUnsafeMutableBytes { bytes in
      guard let lane = bytes.baseAddress, unsafe encrypt(cipher, lane, 1) else { return false }
      let high = unsafe UInt64(bigEndian: lane.load(as: UInt64.self))
      let low = unsafe UInt64(bigEndian: lane.load(fromByteOffset: 8, as: UInt64.self))
      let (first, second) = (high << 1 | low >> 63, low << 1 ^ (0 &- high >> 63) & 0x87)
      unsafe lane.storeBytes(of: first.bigEndian, toByteOffset: subkey, as: UInt64.self)
      unsafe lane.storeBytes(of: second.bigEndian, toByteOffset: subkey + 8, as: UInt64.self)
      unsafe explicit_bzero(lane, block)
      return true
    }
    guard done else { throw .last("AES-256-ECB") }
    return state
  }

  /// The tags of as many messages as `tags` has room for, 1 to `mostLanes`. A message is 32 bytes of `prefixes` and
  /// `size` of `content`, a multiple of 16.
  mutating func tags(
    _ prefixes: Span<UInt8>, _ content: Span<UInt8>, size: Int, into tags: consuming MutableSpan<UInt8>
  ) throws(CryptoError) {
    let count = tags.count / Self.block
    precondition(tags.count % Self.block == 0 && (1...Self.mostLanes).contains(count))
    precondition(size > 0 && size % Self.block == 0 && size <= 1 << 24)
    precondition(prefixes.count == count * Self.prefixCount && content.count == count * size)
    let cipher = unsafe cipher.pointer
    var bytes = state.mutableSpan
    let done = unsafe bytes.withUnsafeMutableBytes { bytes in
      unsafe prefixes.withUnsafeBytes { prefixes in
        unsafe content.withUnsafeBytes { content in
          unsafe tags.withUnsafeMutableBytes { tags in
            guard let lanes = bytes.baseAddress, let prefix = prefixes.baseAddress, let first = content.baseAddress,
              let output = tags.baseAddress
            else { return false }
            defer { unsafe explicit_bzero(lanes, Self.subkey) }
            for offset in stride(from: 0, to: Self.prefixCount, by: Self.block) {
              unsafe Self.add(prefix + offset, Self.prefixCount, lanes, count)
              guard unsafe Self.encrypt(cipher, lanes, count) else { return false }
            }
            let last = size - Self.block
            for offset in stride(from: 0, to: last, by: Self.block) {
              unsafe Self.add(first + offset, size, lanes, count)
              guard unsafe Self.encrypt(cipher, lanes, count) else { return false }
            }
            unsafe Self.add(first + last, size, lanes, count)
            unsafe Self.add(lanes + Self.subkey, 0, lanes, count)
            guard unsafe Self.encrypt(cipher, lanes, count) else { return false }
            unsafe output.copyMemory(from: lanes, byteCount: count * Self.block)
            return true
          }
        }
      }
    }
    guard done else { throw .last("AES-256-ECB") }
  }

  /// XORs into each lane a block of its own; the next one's is `distance` bytes on.
  @inline(__always)
  private static func add(
    _ source: UnsafeRawPointer, _ distance: Int, _ lanes: UnsafeMutableRawPointer, _ count: Int
  ) {
    for lane in 0..<count {
      let (from, to) = unsafe (source + lane &* distance, lanes + lane &* block)
      let low = unsafe from.loadUnaligned(as: UInt64.self)
      let high = unsafe from.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
      unsafe to.storeBytes(of: low ^ to.load(as: UInt64.self), as: UInt64.self)
      unsafe to.storeBytes(of: high ^ to.load(fromByteOffset: 8, as: UInt64.self), toByteOffset: 8, as: UInt64.self)
    }
  }

  /// Encrypts the first lanes where they are.
  @inline(__always)
  private static func encrypt(_ cipher: OpaquePointer, _ lanes: UnsafeMutableRawPointer, _ count: Int) -> Bool {
    var written: Int32 = 0
    let bytes = unsafe lanes.assumingMemoryBound(to: UInt8.self)
    return unsafe EVP_CipherUpdate(cipher, bytes, &written, bytes, Int32(count * block)) == 1
  }
}
