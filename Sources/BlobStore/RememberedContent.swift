import Primitives

/// What one entry's content will be after the next commit, so that replacing it writes only the sectors that differ: a
/// TPM hands over all of its permanent state for each byte that changes in it.
///
/// It is never read in place of the medium, and only says which sectors need no writing. So it must be what is staged
/// over what is committed, or nothing: whatever else changes the entry, or takes back what was staged, forgets it.
/// Plaintext, in memory that is wiped when it is given up.
struct RememberedContent: ~Copyable {
  /// Contents of other sizes are not worth it: one sector is written in any case, and much is much memory.
  static let most = 262_144

  private var entry: Int?
  private var bytes = ByteBuffer(count: 0)
  private var count = 0

  /// Whether bytes `range` of the entry's content are as in `content`, on the medium or staged. False where that isn't
  /// known, and beyond the end of either.
  func has(_ range: Range<Int>, of content: Span<UInt8>, in entry: Int) -> Bool {
    guard self.entry == entry, range.upperBound <= min(count, content.count) else { return false }
    return bytes.span(range).equals(content.extracting(range))
  }

  /// Whether a content of `count` bytes is remembered of the entry.
  func holds(_ count: Int, of entry: Int) -> Bool { self.entry == entry && self.count == count }

  /// Bytes `range` of the content that is remembered were staged anew.
  mutating func update(_ range: Range<Int>, of content: Span<UInt8>) {
    bytes.copy(from: content.extracting(range), at: range.lowerBound)
  }

  /// All of the entry's content was staged, or read while nothing was.
  mutating func remember(_ content: Span<UInt8>, of entry: Int, sectorSize: Int) {
    guard content.count > sectorSize, content.count <= Self.most else { return forget(entry) }
    if content.count > bytes.count {
      bytes = ByteBuffer(count: min(Self.most, (content.count + 16383) / 16384 * 16384))
    } else if content.count < count {
      bytes.wipe(content.count..<count)
    }
    bytes.copy(from: content)
    count = content.count
    self.entry = entry
  }

  mutating func forget(_ entry: Int) {
    if self.entry == entry { forget() }
  }

  mutating func forget() {
    guard entry != nil else { return }
    entry = nil
    count = 0
    bytes = ByteBuffer(count: 0)
  }
}
