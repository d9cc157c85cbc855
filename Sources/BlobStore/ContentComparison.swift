import Primitives

/// Tells which parts of a content are on the medium already, reading some of it at a time into one buffer.
struct ContentComparison: ~Copyable {
  private static let windowSize = 65536

  private let reader: SectorReader
  /// The bytes of the stream that hold content now. What lies beyond isn't known to be zeros.
  private let committed: Range<UInt64>
  /// There is none before it is needed.
  private var window = ByteBuffer(count: 0)
  /// The bytes of the stream that are in the window.
  private var held: Range<UInt64> = 0..<0

  init(_ reader: SectorReader, committed: Range<UInt64>) {
    self.reader = reader
    self.committed = committed
  }

  deinit { reader.forget() }

  /// Whether bytes `range` of the stream, no more than a sector, are `content` and behind it zeros. False where they
  /// can't be read: what is written anew needn't be.
  mutating func has(_ content: Span<UInt8>, at range: Range<UInt64>) -> Bool {
    guard committed.contains(range.lowerBound), range.upperBound <= committed.upperBound, hold(range) else {
      return false
    }
    let start = Int(range.lowerBound - held.lowerBound)
    let part = window.span(start..<start + range.count)
    return part.extracting(0..<content.count).equals(content) && part.extracting(content.count..<range.count).isZero
  }

  private mutating func hold(_ range: Range<UInt64>) -> Bool {
    if held.contains(range.lowerBound), range.upperBound <= held.upperBound { return true }
    if window.count == 0 { window = ByteBuffer(count: Self.windowSize) }
    let start = range.lowerBound
    let count = Int(min(UInt64(Self.windowSize), committed.upperBound - start))
    held = 0..<0
    do throws(BlobStoreError) {
      try reader.read(ByteOffset(start), into: window.mutableSpan(0..<count))
    } catch { return false }
    held = start..<start + UInt64(count)
    return true
  }
}
