import Crypto
import Primitives

/// The pasts that a store has come through, one entry an epoch (FORMAT §2, Lineage): what tells an image that is ahead
/// of its anchor from one that went another way.
struct Lineage: Equatable, Sendable {
  /// One epoch of a store's life.
  struct Entry: Equatable, Sendable {
    let value: InlineBytes32
    /// The generation of the epoch's last header; 0 while it is the newest.
    var last: UInt64
  }

  /// The oldest first; 1 to 64.
  private(set) var entries: [Entry]
  /// What an anchor was last handed. Nothing but the next handing over changes it.
  private(set) var anchored: Entry?

  /// What a store begins with.
  init() { (entries, anchored) = ([], nil) }

  var newest: InlineBytes32 { entries.last?.value ?? InlineBytes32() }

  /// Adds an epoch, which begins with a header after one of `generation`.
  mutating func begin(
    _ epoch: InlineBytes16, after generation: Generation, auditHeads: [UInt8], digest: InlineBytes32,
    with structure: inout StructureMAC
  ) throws(CryptoError) {
    try structure.startInput(.lineage)
    try structure.update(digest)
    try structure.update(newest)
    try structure.update(epoch.word(0))
    try structure.update(epoch.word(1))
    try structure.update(auditHeads.span)
    let value = try structure.finish()
    if anchored != nil, anchored?.value == newest { anchored?.last = generation.value }
    if !entries.isEmpty { entries[entries.count - 1].last = generation.value }
    entries.append(Entry(value: value, last: 0))
    if entries.count > Format.lineageCount { entries.removeFirst() }
  }

  /// The entry of that value, which an anchor remembers.
  func entry(_ value: InlineBytes32) -> Entry? {
    entries.last { $0.value == value } ?? (anchored?.value == value ? anchored : nil)
  }

  /// An anchor has been handed this value.
  mutating func noteAnchored(_ value: InlineBytes32) { anchored = entry(value) ?? anchored }

  /// Whether an anchor's record of this value and generation is of this image's past.
  func has(_ value: InlineBytes32, at generation: Generation) -> Bool {
    guard let entry = entry(value) else { return false }
    return value == newest || entry.last >= generation.value
  }

  func encode(to out: inout ByteBuffer) {
    if let anchored { Self.encode(anchored, to: &out, at: Format.anchoredOffset) }
    out.store(UInt32(entries.count), at: Format.lineageOffset - 8)
    for (i, entry) in entries.enumerated() {
      Self.encode(entry, to: &out, at: Format.lineageOffset + i * Format.lineageEntrySize)
    }
  }

  private static func encode(_ entry: Entry, to out: inout ByteBuffer, at offset: Int) {
    out.store(entry.value, at: offset)
    out.store(entry.last, at: offset + 32)
  }

  /// `nil` where the count is out of range. The caller sees that nothing else was there by encoding it again.
  init?(parsing header: Span<UInt8>) {
    let count = header.load(UInt32.self, at: Format.lineageOffset - 8)
    guard (1...UInt32(Format.lineageCount)).contains(count) else { return nil }
    entries = (0..<Int(count)).map {
      Self.parse(header, at: Format.lineageOffset + $0 * Format.lineageEntrySize)
    }
    let entry = Self.parse(header, at: Format.anchoredOffset)
    anchored = entry == Entry(value: InlineBytes32(), last: 0) ? nil : entry
    guard entries.last?.last == 0, (entries + [entry]).allSatisfy({ $0.last < Format.numberLimit }),
      anchored?.value != InlineBytes32()
    else { return nil }
  }

  private static func parse(_ header: Span<UInt8>, at offset: Int) -> Entry {
    Entry(value: InlineBytes32(header, at: offset), last: header.load(UInt64.self, at: offset + 32))
  }
}
