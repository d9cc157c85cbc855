// Sixteen and thirty-two bytes by value, hashable and comparable. Public data; secrets live in `SecretBytes`.

/// Sixteen bytes by value: a UUID, an epoch, a tag.
public struct InlineBytes16: Hashable, Sendable {
  private var low: UInt64 = 0
  private var high: UInt64 = 0

  public init() {}

  /// Two little-endian words.
  public init(low: UInt64, high: UInt64) {
    self.low = low
    self.high = high
  }

  /// The 16 bytes at `offset`.
  public init(_ source: Span<UInt8>, at offset: Int = 0) {
    low = source.load(UInt64.self, at: offset)
    high = source.load(UInt64.self, at: offset + 8)
  }

  public subscript(index: Int) -> UInt8 {
    get { UInt8(truncatingIfNeeded: (index < 8 ? low : high) >> UInt64(8 * (index & 7))) }
    set {
      let shift = UInt64(8 * (index & 7))
      if index < 8 {
        low = low & ~(0xFF << shift) | UInt64(newValue) << shift
      } else {
        high = high & ~(0xFF << shift) | UInt64(newValue) << shift
      }
    }
  }

  /// The little-endian word 0 or 1.
  public func word(_ index: Int) -> UInt64 { index == 0 ? low : high }

  public func store(in span: inout MutableSpan<UInt8>, at offset: Int) {
    span.store(low, at: offset)
    span.store(high, at: offset + 8)
  }

  public var array: [UInt8] { (0..<16).map { self[$0] } }
}

/// Thirty-two bytes by value: a MAC, a digest. Public data; secrets live in `SecretBytes`.
public struct InlineBytes32: Hashable, Sendable {
  private var low = InlineBytes16()
  private var high = InlineBytes16()

  public init() {}

  public init(_ source: Span<UInt8>, at offset: Int = 0) {
    low = InlineBytes16(source, at: offset)
    high = InlineBytes16(source, at: offset + 16)
  }

  public subscript(index: Int) -> UInt8 {
    get { index < 16 ? low[index] : high[index - 16] }
    set { if index < 16 { low[index] = newValue } else { high[index - 16] = newValue } }
  }

  /// The little-endian word 0 to 3.
  public func word(_ index: Int) -> UInt64 { index < 2 ? low.word(index) : high.word(index - 2) }

  public func store(in span: inout MutableSpan<UInt8>, at offset: Int) {
    low.store(in: &span, at: offset)
    high.store(in: &span, at: offset + 16)
  }

  public var array: [UInt8] { low.array + high.array }
}
