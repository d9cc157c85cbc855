// The MAC over the format's structure: headers, tree nodes, roots, journal records. One key schedule per key, nothing
// allocated per message (EVP_MAC_init without a key starts HMAC over, documented in EVP_MAC-HMAC and measured).
import CLibcrypto
import Primitives

/// HMAC-SHA-256 (RFC 2104, FIPS 198-1), untruncated, over a message given in pieces:
/// `start`, `update` any number of times, `finish`. A message may be abandoned by starting another.
public struct StructureMAC: ~Copyable, Sendable {
  public static let keyCount = 32

  private let context: MACContext
  private var started = false

  public init(key: borrowing SecretBytes) throws(CryptoError) {
    precondition(key.count == Self.keyCount)
    try self.init(anyLength: key)
  }

  /// Keys of any length but zero, for published vectors.
  init(anyLength key: borrowing SecretBytes) throws(CryptoError) {
    let algorithm = unsafe Algorithms.hmac
    KeyScope.enter()
    defer { KeyScope.leaveAndWipe() }
    let context = try unsafe MACContext(algorithm, "HMAC")
    try context.setKey(key.span, ParameterName.digest, ParameterName.sha256)
    self.context = context
  }

  public mutating func start() throws(CryptoError) {
    try context.restart()
    started = true
  }

  public mutating func update(_ bytes: Span<UInt8>) throws(CryptoError) {
    precondition(started)
    try context.update(bytes)
  }

  public mutating func update(_ bytes: InlineBytes32) throws(CryptoError) {
    var block = InlineArray<32, UInt8>(repeating: 0)
    var span = block.mutableSpan
    bytes.store(in: &span, at: 0)
    try update(block.span)
  }

  /// Eight bytes, little-endian.
  public mutating func update(_ value: UInt64) throws(CryptoError) {
    var block = InlineArray<8, UInt8>(repeating: 0)
    var span = block.mutableSpan
    span.store(value, at: 0)
    try update(block.span)
  }

  /// Four bytes each, little-endian.
  public mutating func update(_ first: UInt32, _ second: UInt32) throws(CryptoError) {
    try update(UInt64(first) | UInt64(second) << 32)
  }

  public mutating func finish() throws(CryptoError) -> InlineBytes32 {
    precondition(started)
    started = false
    var mac = InlineArray<32, UInt8>(repeating: 0)
    try context.finish(into: mac.mutableSpan)
    return InlineBytes32(mac.span)
  }
}
