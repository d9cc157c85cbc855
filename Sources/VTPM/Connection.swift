import CSystem
import Glibc
import Primitives

/// A client and the bytes that came from it and aren't used yet, or are for it and aren't sent yet. Never blocks, in
/// either direction.
final class Connection {
  /// A whole TPM command and the prefix that may be before it, or the fixed part of a control message: more than this
  /// from one client is never held.
  static let capacity = 4096 + 9

  enum Received {
    case some
    case nothing
    case hungUp
  }

  let descriptor: Int32
  private var buffer = ByteBuffer(count: Connection.capacity)
  /// How many bytes are buffered.
  private(set) var count = 0
  /// A descriptor that came with the bytes; the last one, where there were several. Ours to close until it is taken.
  private var passed: Int32 = -1
  /// What the server waits for of it.
  private var registration = EventRegistration()
  /// What the client's socket had no room for.
  private var output: [UInt8] = []

  init(adopting descriptor: Int32) {
    self.descriptor = descriptor
    _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
    _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
    // Fails on a Unix socket, which has no such delay.
    var yes: Int32 = 1
    _ = unsafe setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &yes, socklen_t(MemoryLayout<Int32>.size))
  }

  deinit {
    dropDescriptor()
    wipe(&output)
    registration.end(of: descriptor)
    close(descriptor)
  }

  /// Has `set` report these events, and no others, from now on. False where it can't: then nothing would be heard of
  /// the client.
  func wait(for events: EventSet.Events, at place: Int, in set: EventSet) -> Bool {
    registration.wait(for: events, of: descriptor, at: place, in: set)
  }

  // MARK: Input

  /// Appends what there is, as far as there is room. A descriptor that comes with it goes.
  func receiveBytes() -> Received {
    guard count < Self.capacity else { return .some }
    let n = unsafe buffer.mutableSpan(count..<Self.capacity).withUnsafeMutableBytesOnce { room in
      unsafe read(descriptor, room.baseAddress, room.count)
    }
    if n > 0 {
      count += n
      return .some
    }
    if n < 0 && (errno == EAGAIN || errno == EINTR) { return .nothing }
    return .hungUp
  }

  /// Appends what there is, as far as there is room.
  func receive() -> Received {
    guard count < Self.capacity else { return .some }
    var came: Int32 = -1
    let n = unsafe buffer.mutableSpan(count..<Self.capacity).withUnsafeMutableBytesOnce { room in
      unsafe csystem_receive(descriptor, room.baseAddress, room.count, &came)
    }
    if came >= 0 {
      dropDescriptor()
      passed = came
    }
    if n > 0 {
      count += n
      return .some
    }
    if n < 0 && (errno == EAGAIN || errno == EINTR) { return .nothing }
    return .hungUp
  }

  /// A descriptor that came with the message; the caller's from now on. -1 where none did.
  func takeDescriptor() -> Int32 {
    defer { passed = -1 }
    return passed
  }

  func dropDescriptor() {
    if passed >= 0 { close(passed) }
    passed = -1
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

  /// Drops what came and wasn't read yet, and leaves alone what is buffered, which may be lent. Ends with one who goes
  /// on sending: the rest is refused for what it is.
  func discardUnread() {
    unsafe withUnsafeTemporaryAllocation(byteCount: 4096, alignment: 1) { room in
      for _ in 0..<16 {
        var came: Int32 = -1
        let n = unsafe csystem_receive(descriptor, room.baseAddress, room.count, &came)
        if came >= 0 { close(came) }
        guard n > 0 else { break }
        unsafe room.baseAddress.map { unsafe explicit_bzero($0, n) }
      }
    }
  }

  // MARK: Output

  var hasOutput: Bool { !output.isEmpty }

  /// Sends all of `bytes` in one write: clients like swtpm_setup take a response from one read. False where the client
  /// is gone, or reads so slowly that its socket is full.
  func send(_ bytes: Span<UInt8>) -> Bool { write(bytes) == bytes.count }

  /// As `send`, but what has no room in the client's socket is kept, to be sent by `flush`. False where the client is
  /// gone.
  func sendOrKeep(_ bytes: Span<UInt8>) -> Bool {
    precondition(!hasOutput)
    let n = write(bytes)
    guard n >= 0 || errno == EAGAIN else { return false }
    // At once, so that nothing of it is left behind where the array would have grown.
    output.reserveCapacity(bytes.count - max(0, n))
    for i in max(0, n)..<bytes.count { output.append(bytes[i]) }
    return true
  }

  /// Sends more of what was kept. False where the client is gone.
  func flush() -> Bool {
    let n = write(output.span)
    guard n >= 0 else { return errno == EAGAIN }
    var sent = output
    output = Array(sent[n...])
    wipe(&sent)
    return true
  }

  private func write(_ bytes: Span<UInt8>) -> Int {
    let flags = Int32(MSG_DONTWAIT) | Int32(MSG_NOSIGNAL)
    return unsafe bytes.withUnsafeBytes { unsafe Glibc.send(descriptor, $0.baseAddress, $0.count, flags) }
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
