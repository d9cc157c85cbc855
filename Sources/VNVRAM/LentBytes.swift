/// Bytes of a caller that waits until its request has ended, and so needs no copy of them: what it writes, or where
/// what is read is to be.
///
/// They cross to the thread that serves the request. That has done with them before the machine says that the request
/// has ended, and the caller stays until then, whatever happens (`NVRAM.wait`).
@safe struct LentBytes: @unchecked Sendable {
  private let base: UnsafeMutablePointer<UInt8>?
  let count: Int

  init(_ bytes: UnsafeBufferPointer<UInt8>) {
    // Written to by nobody: who writes to an entry only reads here.
    unsafe base = UnsafeMutablePointer(mutating: bytes.baseAddress)
    count = bytes.count
  }

  init(_ bytes: UnsafeMutableBufferPointer<UInt8>) {
    unsafe base = bytes.baseAddress
    count = bytes.count
  }

  func withSpan<R, E: Error>(_ body: (Span<UInt8>) throws(E) -> R) throws(E) -> R {
    try body(unsafe Span(_unsafeElements: UnsafeBufferPointer(start: base, count: count)))
  }

  func withMutableSpan<R, E: Error>(_ body: (consuming MutableSpan<UInt8>) throws(E) -> R) throws(E) -> R {
    try body(unsafe MutableSpan(_unsafeElements: UnsafeMutableBufferPointer(start: base, count: count)))
  }
}
