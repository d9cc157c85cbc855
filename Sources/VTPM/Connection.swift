import Glibc
import Primitives

/// A client and the bytes that came from it and aren't used yet. Never blocks, in either direction.
final class Connection {
  /// A whole TPM command, or a whole control message: more than this from one client is never held.
  static let capacity = 4096

  enum Received {
    case some
    case nothing
    case hungUp
  }

  let descriptor: Int32
  private var buffer = ByteBuffer(count: Connection.capacity)
  /// How many bytes are buffered.
  private(set) var count = 0

  init(adopting descriptor: Int32) {
    self.descriptor = descriptor
    _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
    _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
    // Fails on a Unix socket, which has no such delay.
    var yes: Int32 = 1
    _ = unsafe setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &yes, socklen_t(MemoryLayout<Int32>.size))
  }

  deinit { close(descriptor) }

  /// Appends what there is, as far as there is room.
  func receive() -> Received {
    guard count < Self.capacity else { return .some }
    let n = unsafe buffer.mutableSpan(count..<Self.capacity).withUnsafeMutableBytesOnce { room in
      unsafe recv(descriptor, room.baseAddress, room.count, Int32(MSG_DONTWAIT))
    }
    if n > 0 {
      count += n
      return .some
    }
    if n < 0 && (errno == EAGAIN || errno == EINTR) { return .nothing }
    return .hungUp
  }

  /// A big-endian integer among the buffered bytes.
  func peek<T: FixedWidthInteger & UnsignedInteger>(_: T.Type, at offset: Int) -> T {
    precondition(offset + T.bitWidth / 8 <= count)
    return buffer.loadBigEndian(T.self, at: offset)
  }

  /// Lends the first `n` buffered bytes, to be altered in place, and then drops them.
  func consume(_ n: Int, _ body: (consuming MutableSpan<UInt8>) -> Void) {
    precondition(n <= count)
    body(buffer.mutableSpan(0..<n))
    drop(n)
  }

  /// Drops the first `n` buffered bytes, wiping them: commands carry passwords.
  func drop(_ n: Int) {
    precondition(n <= count)
    let rest = count - n
    if rest > 0 {
      unsafe buffer.mutableSpan(0..<count).withUnsafeMutableBytesOnce { bytes in
        if let base = bytes.baseAddress { unsafe memmove(base, base + n, rest) }
      }
    }
    buffer.wipe(rest..<count)
    count = rest
  }

  /// Sends all of `bytes` in one write: clients like swtpm_setup take a response from one read. False where the client
  /// is gone, or reads so slowly that its socket is full.
  func send(_ bytes: Span<UInt8>) -> Bool {
    let flags = Int32(MSG_DONTWAIT) | Int32(MSG_NOSIGNAL)
    let n = unsafe bytes.withUnsafeBytes { unsafe Glibc.send(descriptor, $0.baseAddress, $0.count, flags) }
    return n == bytes.count
  }
}

extension MutableSpan<UInt8> {
  /// As `withUnsafeMutableBytes`, for a span that is passed on as an expression.
  fileprivate consuming func withUnsafeMutableBytesOnce<R>(_ body: (UnsafeMutableRawBufferPointer) -> R) -> R {
    unsafe self.withUnsafeMutableBytes { unsafe body($0) }
  }
}

extension ByteBuffer {
  // A span of a class's stored buffer can't be used in the class itself (Swift 6.3: "escapes its scope"); here it can.
  fileprivate borrowing func loadBigEndian<T: FixedWidthInteger & UnsignedInteger>(_: T.Type, at offset: Int) -> T {
    span.loadBigEndian(T.self, at: offset)
  }
}
