import Glibc

/// A fixed number of bytes on the heap, lent as spans. Long-lived buffers of this type are what keeps the commit and
/// read paths free of allocation. Wiped when freed, since plaintext passes through; keys live in `SecretBytes`.
///
/// A subrange outside the buffer traps: ranges are the program's own, never input's.
@safe public struct ByteBuffer: ~Copyable, Sendable {
  // Sole owner, so that moving it to another thread moves the memory.
  private nonisolated(unsafe) let base: UnsafeMutableRawPointer
  public let count: Int

  /// `count` zero bytes, aligned to 4096 so that a block never straddles pages.
  public init(count: Int) {
    precondition(count >= 0)
    unsafe base = .allocate(byteCount: max(count, 1), alignment: 4096)
    unsafe base.initializeMemory(as: UInt8.self, repeating: 0, count: max(count, 1))
    self.count = count
  }

  deinit {
    unsafe explicit_bzero(base, count)
    unsafe base.deallocate()
  }

  public var span: Span<UInt8> {
    @_lifetime(borrow self)
    get { self.span(0..<count) }
  }

  @_lifetime(borrow self)
  public func span(_ range: Range<Int>) -> Span<UInt8> {
    precondition(range.lowerBound >= 0 && range.upperBound <= count)
    let span = unsafe Span<UInt8>(
      _unsafeStart: UnsafePointer((base + range.lowerBound).assumingMemoryBound(to: UInt8.self)), count: range.count)
    return unsafe _overrideLifetime(span, borrowing: self)
  }

  public var mutableSpan: MutableSpan<UInt8> {
    @_lifetime(&self)
    mutating get { self.mutableSpan(0..<count) }
  }

  @_lifetime(&self)
  public mutating func mutableSpan(_ range: Range<Int>) -> MutableSpan<UInt8> {
    precondition(range.lowerBound >= 0 && range.upperBound <= count)
    let span = unsafe MutableSpan<UInt8>(
      _unsafeStart: (base + range.lowerBound).assumingMemoryBound(to: UInt8.self), count: range.count)
    return unsafe _overrideLifetime(span, mutating: &self)
  }

  /// Sets bytes to zero, for sure: no compiler drops it as a write that nobody reads.
  public mutating func wipe(_ range: Range<Int>) {
    precondition(range.lowerBound >= 0 && range.upperBound <= count)
    unsafe explicit_bzero(base + range.lowerBound, range.count)
  }
}
