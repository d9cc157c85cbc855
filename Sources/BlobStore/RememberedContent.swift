import Primitives

/// What one entry's content will be after the next commit, so that replacing it writes only the sectors that differ: a
/// TPM hands over all of its permanent state for each byte that changes in it.
///
/// It is never read in place of the medium, and only says which sectors need no writing. So it must be what is staged
/// over what is committed, or nothing: whatever else changes the entry, or takes back what was staged, forgets it.
///
/// Plaintext that stays from commit to commit: in memory that is never swapped and wiped when it is given up, or, where
/// the process has no such memory, not kept.
struct RememberedContent: ~Copyable {
  /// Bytes of the largest content that is remembered: much is much memory. 0 where there is no memory for it.
  private(set) var most = 262_144
  /// Memory is taken in steps, so that a content which grows byte by byte doesn't take it each time.
  private static let step = 16384

  private var entry: Int?
  private var bytes: SecretBytes?
  private var count = 0

  /// Whether bytes `range` of the entry's content are as in `content`, on the medium or staged. False where that isn't
  /// known, and beyond the end of either.
  func has(_ range: Range<Int>, of content: Span<UInt8>, in entry: Int) -> Bool {
    guard self.entry == entry, range.upperBound <= min(count, content.count) else { return false }
    return switch bytes {
    case .some(let bytes): bytes.span.extracting(range).equals(content.extracting(range))
    case nil: false
    }
  }

  /// Whether a content of `count` bytes is remembered of the entry.
  func holds(_ count: Int, of entry: Int) -> Bool { self.entry == entry && self.count == count }

  /// Bytes `range` of the content that is remembered were staged anew.
  mutating func update(_ range: Range<Int>, of content: Span<UInt8>) {
    copy(content.extracting(range), at: range.lowerBound)
  }

  /// All of the entry's content was staged, or read while nothing was. A content that fits into one sector isn't worth
  /// it: that sector is written in any case. One of a sector's size lies in two.
  mutating func remember(_ content: Span<UInt8>, of entry: Int, sectorSize: Int) {
    guard content.count >= sectorSize, content.count <= most else { return forget(entry) }
    if content.count > bytes?.count ?? 0 {
      forget()
      bytes = SecretBytes(neverSwapped: (content.count + Self.step - 1) / Self.step * Self.step)
      guard bytes != nil else { return most = 0 }
    } else if content.count < count {
      wipe(content.count..<count)
    }
    copy(content, at: 0)
    count = content.count
    self.entry = entry
  }

  mutating func forget(_ entry: Int) {
    if self.entry == entry { forget() }
  }

  mutating func forget() {
    entry = nil
    count = 0
    bytes = nil
  }

  private mutating func copy(_ content: Span<UInt8>, at offset: Int) {
    var all = bytes?.mutableSpan
    all?.copy(from: content, at: offset)
  }

  private mutating func wipe(_ range: Range<Int>) {
    var all = bytes?.mutableSpan
    var part = all?._mutatingExtracting(range)
    part?.fill(0)
  }
}
