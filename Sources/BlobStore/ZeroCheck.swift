import Primitives

/// Sees that ranges of a source are all zeros, through one buffer.
struct ZeroCheck {
  /// For messages.
  let store: String
  let source: StreamSource

  /// - Throws: `.damaged` with the place of the first byte that isn't zero; what `source` throws.
  func check(_ range: Range<UInt64>, _ what: String, entry: EntryName?) throws(BlobStoreError) {
    guard !range.isEmpty else { return }
    var window = ByteBuffer(count: Int(min(65536, UInt64(range.count))))
    var offset = range.lowerBound
    while offset < range.upperBound {
      let count = Int(min(UInt64(window.count), range.upperBound - offset))
      try source(ByteOffset(offset), window.mutableSpan(0..<count))
      if !window.span(0..<count).isZero {
        var first = 0
        while window.span[first] == 0 { first += 1 }
        throw .damaged("\(what) is not zero", at: offset + UInt64(first), entry: entry, store: store)
      }
      offset += UInt64(count)
    }
  }

  /// What FORMAT §8 has as zeros within an entry: its padding, and what its content doesn't use.
  func check(_ place: StreamLayout.Place, size: UInt64) throws(BlobStoreError) {
    let head = place.content - UInt64(place.contentHeader.size)
    let padding = StreamLayout.paddingLength(place.padding) ?? 0
    try check(head - padding..<head, "the padding", entry: place.name)
    try check(place.content + size..<place.end, "what lies beyond the real size", entry: place.name)
  }
}
