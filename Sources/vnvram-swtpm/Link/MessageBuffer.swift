import CSystem
import Glibc
import Primitives

/// One message between monitor and worker, as it is built, sent, received and taken apart: a kind, and fields in a
/// fixed order, little-endian; a text or bytes have their length before them.
///
/// It lies where keys lie, since some messages have one: none is left in ordinary memory. (In the kernel's, it is for
/// as long as it is under way.)
struct MessageBuffer: ~Copyable {
  static let capacity = 8192
  /// Of a text, so that no message becomes too large. Bytes.
  static let longestText = 1500

  private var bytes = SecretBytes(count: capacity)
  private var count = 0
  private var position = 0

  // MARK: Building

  /// Begins a message, in place of what was there.
  mutating func begin(_ kind: UInt8) {
    wipe()
    put(kind)
  }

  mutating func put<T: FixedWidthInteger>(_ value: T) {
    precondition(count + T.bitWidth / 8 <= Self.capacity)
    let start = count
    var place = bytes.mutableSpan
    for i in 0..<T.bitWidth / 8 { place[start + i] = UInt8(truncatingIfNeeded: value >> T(8 * i)) }
    count += T.bitWidth / 8
  }

  mutating func put(_ value: Bool) { put(UInt8(value ? 1 : 0)) }

  mutating func put(_ source: Span<UInt8>) {
    put(UInt32(source.count))
    precondition(count + source.count <= Self.capacity)
    let start = count
    var place = bytes.mutableSpan
    for i in 0..<source.count { place[start + i] = source[i] }
    count += source.count
  }

  /// A longer one is cut.
  mutating func put(_ text: String) {
    let bytes = Array(text.utf8.prefix(Self.longestText))
    put(bytes.span)
  }

  // MARK: Taking apart

  mutating func take<T: FixedWidthInteger>(_: T.Type) throws(LinkError) -> T {
    let size = T.bitWidth / 8
    guard count - position >= size else { throw LinkError("a message is cut short") }
    var value: T = 0
    for i in 0..<size { value |= T(truncatingIfNeeded: bytes.span[position + i]) << T(8 * i) }
    position += size
    return value
  }

  mutating func takeBool() throws(LinkError) -> Bool { try take(UInt8.self) != 0 }

  mutating func takeText() throws(LinkError) -> String {
    let bytes = try takeBytes(atMost: Self.longestText)
    return String(decoding: bytes, as: UTF8.self)
  }

  mutating func takeBytes(atMost most: Int) throws(LinkError) -> [UInt8] {
    let range = try takeRange(atMost: most)
    let span = bytes.span
    return range.map { span[$0] }
  }

  mutating func takeSecret(atMost most: Int) throws(LinkError) -> SecretBytes {
    let range = try takeRange(atMost: most)
    return SecretBytes(copying: bytes.span.extracting(range))
  }

  private mutating func takeRange(atMost most: Int) throws(LinkError) -> Range<Int> {
    let size = Int(try take(UInt32.self))
    guard size <= most, size <= count - position else { throw LinkError("a message has more than it may") }
    defer { position += size }
    return position..<position + size
  }

  /// After the last field.
  mutating func finish() throws(LinkError) {
    guard position == count else { throw LinkError("a message has more than it should") }
    wipe()
  }

  mutating func wipe() {
    let end = count
    var place = bytes.mutableSpan
    for i in 0..<end { place[i] = 0 }
    (count, position) = (0, 0)
  }

  // MARK: Under way

  /// Sends it, and a descriptor if that isn't -1. Never waits: who doesn't read is no partner any more.
  mutating func send(_ socket: Int32, descriptor: Int32) throws(LinkError) {
    let size = count
    let sent = unsafe bytes.span.withUnsafeBytes { bytes in
      unsafe csystem_send(socket, bytes.baseAddress, size, descriptor)
    }
    let code = errno
    wipe()
    guard sent == size else { throw LinkError(errno: sent < 0 ? code : EMSGSIZE, "sending") }
  }

  enum Received {
    case message(descriptor: Int32)
    case nothing
    case hungUp
  }

  /// Takes the next message, if there is one.
  mutating func receive(_ socket: Int32) throws(LinkError) -> Received {
    wipe()
    var descriptor: Int32 = -1
    var place = bytes.mutableSpan
    let size = unsafe place.withUnsafeMutableBytes { bytes in
      unsafe csystem_receive(socket, bytes.baseAddress, bytes.count, &descriptor)
    }
    if size < 0 {
      if errno == EAGAIN || errno == EINTR { return .nothing }
      if errno == ECONNRESET { return .hungUp }
      throw LinkError(errno: errno, "receiving")
    }
    guard size > 0 else { return .hungUp }
    count = size
    return .message(descriptor: descriptor)
  }
}
