import Crypto
import Primitives

/// What plaintext would look like where none should be: in space that means nothing.
///
/// What counts as a left-over, at any byte offset: 16 bytes that a sector holds at a multiple of 16, unless they begin
/// with eight zeros or have fewer than eight different bytes, as any format has; or a needle, whole: bytes of at least
/// eight that the content's format gives. So 31 bytes of such content in one piece are always found. Of contents of
/// more than 16 MiB every n-th piece of 16 bytes is looked for, and so pieces of at least n × 16 + 15 bytes are found.
///
/// Content isn't kept: of each 16 bytes there are two fingerprints of 64 bits under random numbers of this process.
public final class LeftOverSearch {
  private static let mostPieces: UInt64 = 1 << 20
  private static let filterBits = 22

  private let multipliers: (UInt64, UInt64, UInt64, UInt64)
  private let stride: Int
  private var pieces: [UInt64: (check: UInt64, sector: SectorIndex)] = [:]
  /// By their first eight bytes.
  private var needles: [UInt64: [[UInt8]]] = [:]
  /// A bit for each value of a hash of the first eight bytes of anything looked for.
  private var filter = [UInt64](repeating: 0, count: 1 << (LeftOverSearch.filterBits - 6))

  /// - Parameter size: bytes of content that are going to be added.
  public init(contentSize size: ByteCount) throws(CryptoError) {
    let (a, b) = (try Random.bytes16(), try Random.bytes16())
    multipliers = (a.word(0) | 1, a.word(1) | 1, b.word(0) | 1, b.word(1) | 1)
    stride = Int(max(1, (size.value / 16 + Self.mostPieces - 1) / Self.mostPieces)) * 16
  }

  /// Looks for these bytes, at least eight, too.
  public func add(needle: [UInt8]) {
    guard needle.count >= 8 else { return }
    let word = needle.span.load(UInt64.self, at: 0)
    needles[word, default: []].append(needle)
    mark(word)
  }

  /// Looks for a sector's content.
  func add(_ plaintext: Span<UInt8>, sector: SectorIndex) {
    for offset in Swift.stride(from: 0, to: plaintext.count - 15, by: stride) {
      let first = plaintext.load(UInt64.self, at: offset)
      guard first != 0 else { continue }
      let second = plaintext.load(UInt64.self, at: offset + 8)
      guard Self.isDistinct(first, second) else { continue }
      pieces[print(first, second)] = (check(first, second), sector)
      mark(first)
    }
  }

  /// What of it begins at a place.
  enum Match {
    case sector(SectorIndex)
    case needle
  }

  /// - Parameter word: the eight bytes at `offset`, not all of them zero.
  func match(_ bytes: Span<UInt8>, at offset: Int, word: UInt64) -> Match? {
    let bit = Int((word &* multipliers.0) >> UInt64(64 - Self.filterBits))
    guard filter[bit >> 6] & 1 << UInt64(bit & 63) != 0 else { return nil }
    if let candidates = needles[word] {
      for needle in candidates where needle.count <= bytes.count - offset {
        if bytes.extracting(offset..<offset + needle.count).equals(needle) { return .needle }
      }
    }
    guard bytes.count - offset >= 16 else { return nil }
    let second = bytes.load(UInt64.self, at: offset + 8)
    guard let found = pieces[print(word, second)], found.check == check(word, second) else { return nil }
    return .sector(found.sector)
  }

  private func mark(_ word: UInt64) {
    let bit = Int((word &* multipliers.0) >> UInt64(64 - Self.filterBits))
    filter[bit >> 6] |= 1 << UInt64(bit & 63)
  }

  private func print(_ a: UInt64, _ b: UInt64) -> UInt64 { Self.mix(a, b, multipliers.0, multipliers.1) }
  private func check(_ a: UInt64, _ b: UInt64) -> UInt64 { Self.mix(a, b, multipliers.2, multipliers.3) }

  private static func mix(_ a: UInt64, _ b: UInt64, _ m: UInt64, _ n: UInt64) -> UInt64 {
    let (x, y) = (a.multipliedFullWidth(by: m), b.multipliedFullWidth(by: n))
    return x.low ^ x.high &+ y.high ^ y.low
  }

  /// Whether 16 bytes have at least eight different values.
  private static func isDistinct(_ first: UInt64, _ second: UInt64) -> Bool {
    var seen: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)
    for i in 0..<16 {
      let byte = UInt8(truncatingIfNeeded: (i < 8 ? first : second) >> UInt64(8 * (i & 7)))
      let bit = UInt64(1) << UInt64(byte & 63)
      switch byte >> 6 {
      case 0: seen.0 |= bit
      case 1: seen.1 |= bit
      case 2: seen.2 |= bit
      default: seen.3 |= bit
      }
    }
    return seen.0.nonzeroBitCount + seen.1.nonzeroBitCount + seen.2.nonzeroBitCount + seen.3.nonzeroBitCount >= 8
  }
}
