import Glibc

/// A fixed number of bytes on the heap, lent as spans. Long-lived buffers of this type are what keeps the commit and
/// read paths free of allocation. Wiped when freed, since plaintext passes through; keys live in `SecretBytes`.
///
/// A subrange outside the buffer traps: ranges are the program's own, never input's.
@safe public struct ByteBuffer: ~Copyable, Sendable {
  // Sole owner, so that moving it to another thread moves the memory.
  private nonisolated(unsafe) let base: UnsafeMutableRawPointer
  public let count: Int

  /// `count` zero bytes, aligned to 4096 so that a block never straddles pages, unless it is smaller than one.
  public init(count: Int) {
    precondition(count >= 0)
    unsafe base = .allocate(byteCount: max(count, 1), alignment: count < 4096 ? 16 : 4096)
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

  /// Reads a little-endian integer at `offset`.
  @inlinable public func load<T: FixedWidthInteger & UnsignedInteger & BitwiseCopyable>(_: T.Type, at offset: Int) -> T
  {
    span.load(T.self, at: offset)
  }

  /// Writes `value`, little-endian, at `offset`.
  @inlinable public mutating func store<T: FixedWidthInteger & UnsignedInteger & BitwiseCopyable>(
    _ value: T, at offset: Int
  ) {
    var out = mutableSpan
    out.store(value, at: offset)
  }

  @inlinable public mutating func store(_ value: InlineBytes16, at offset: Int) {
    store(value.word(0), at: offset)
    store(value.word(1), at: offset + 8)
  }

  public mutating func store(_ value: InlineBytes32, at offset: Int) {
    for i in 0..<4 { store(value.word(i), at: offset + 8 * i) }
  }

  /// Copies all of `source` to `offset`.
  public mutating func copy(from source: Span<UInt8>, at offset: Int = 0) {
    var out = mutableSpan
    out.copy(from: source, at: offset)
  }

  public mutating func copy(from source: borrowing ByteBuffer, at offset: Int = 0) {
    copy(from: source.span, at: offset)
  }

  /// Copies a part of `source` to `offset`.
  public mutating func copy(_ range: Range<Int>, of source: borrowing ByteBuffer, at offset: Int) {
    copy(from: source.span(range), at: offset)
  }

  public mutating func copy(from source: [UInt8], at offset: Int = 0) { copy(from: source.span, at: offset) }

  /// Sets bytes to zero, for sure: no compiler drops it as a write that nobody reads.
  public mutating func wipe(_ range: Range<Int>) {
    precondition(range.lowerBound >= 0 && range.upperBound <= count)
    unsafe explicit_bzero(base + range.lowerBound, range.count)
  }
}
