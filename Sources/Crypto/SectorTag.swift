// The 128-bit tag of a sector. One key schedule per key, none per tag, nothing allocated per tag.
//
// Measured with libcrypto 3.0.22: EVP_MAC_init(context, NULL, 0, NULL) starts CMAC over under the key that is set, also
// after an unfinished message, with the same result as setting the key again; for 40 bytes 175 ns against 360 ns with a
// key schedule and 277 ns with EVP_MAC_CTX_dup. A libcrypto in which that call did nothing would give wrong tags
// without an error, so the first use in a process checks it and refuses.
import CLibcrypto
import Primitives

/// AES-256-CMAC (SP 800-38B), untruncated.
public struct SectorTag: ~Copyable, Sendable {
  public static let keyCount = 32

  private let context: MACContext

  public init(key: borrowing SecretBytes) throws(CryptoError) {
    precondition(key.count == Self.keyCount)
    guard Self.restarts else { throw .unavailable("CMAC that starts over under the same key") }
    context = try Self.keyed(key)
  }

  private init(unchecked key: borrowing SecretBytes) throws(CryptoError) { context = try Self.keyed(key) }

  private static func keyed(_ key: borrowing SecretBytes) throws(CryptoError) -> MACContext {
    let algorithm = unsafe Algorithms.cmac
    KeyScope.enter()
    defer { KeyScope.leaveAndWipe() }
    let context = try unsafe MACContext(algorithm, "CMAC")
    try context.setKey(key.span, ParameterName.cipher, ParameterName.aes256CBC)
    return context
  }

  /// The tag over `prefix` followed by `content`, as one message.
  public mutating func tag(_ prefix: Span<UInt8>, _ content: Span<UInt8>) throws(CryptoError) -> InlineBytes16 {
    try context.restart()
    try context.update(prefix)
    try context.update(content)
    var tag = InlineArray<16, UInt8>(repeating: 0)
    try context.finish(into: tag.mutableSpan)
    return InlineBytes16(tag.span)
  }

  public static var mostLanes: Int { 16 }
  public mutating func tags(
    _ prefixes: borrowing ByteBuffer, _ content: borrowing ByteBuffer, from offset: Int, size: Int, count: Int,
    into tags: inout ByteBuffer
  ) throws(CryptoError) {
    for i in 0..<count {
      let t = try tag(prefixes.span(32 * i..<32 * i + 32), content.span(offset + i * size..<offset + (i + 1) * size))
      tags.store(t, at: 16 * i)
    }
  }

  /// Whether `tag` is the one over `prefix` followed by `content`. Compared in constant time.
  public mutating func verify(
    _ tag: InlineBytes16, _ prefix: Span<UInt8>, _ content: Span<UInt8>
  ) throws(CryptoError) -> Bool {
    ConstantTime.equals(try self.tag(prefix, content), tag)
  }

  /// Whether a second message under the same context gets the tag that it gets under a fresh one.
  private static let restarts: Bool = {
    do {
      let key = SecretBytes(count: keyCount)
      var used = try SectorTag(unchecked: key)
      var fresh = try SectorTag(unchecked: key)
      let (first, second) = (InlineArray<3, UInt8>(repeating: 1), InlineArray<20, UInt8>(repeating: 2))
      _ = try used.tag(first.span, first.span)
      return try used.tag(second.span, first.span) == fresh.tag(second.span, first.span)
    } catch {
      return false
    }
  }()
}
