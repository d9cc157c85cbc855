import Primitives
import SecureVolume

// The stream as a whole: giving it out and checking every byte of it.
extension BlobStore {
  private static let windowSize = 65536

  /// Gives out the whole stream, piece by piece: the plain form (FORMAT §9). All entries are verified before the first.
  ///
  /// - Throws: `BlobStoreError`, or what `sink` throws.
  public func dump(to sink: (Span<UInt8>) throws -> Void) throws {
    for index in directory.sizes.indices { try verify(index) }
    var window = ByteBuffer(count: Self.windowSize)
    let end = streamSize.value
    var offset: UInt64 = 0
    defer { reader.forget() }
    while offset < end {
      let count = Int(min(UInt64(window.count), end - offset))
      try reader.read(ByteOffset(offset), into: window.mutableSpan(0..<count))
      try sink(window.span(0..<count))
      offset += UInt64(count)
    }
  }

  /// Reads every byte of the volume and sees that it holds the one encoding of its entries: that headers, padding,
  /// unused capacity and what lies behind the stream are as they must be.
  ///
  /// - Throws: `.damaged` with the place of the first byte that is wrong; `.volume` where a sector can't be read.
  public func check() throws(BlobStoreError) {
    let total = volume.byteCount.value
    var actual = ByteBuffer(count: Self.windowSize)
    var expected = ByteBuffer(count: Self.windowSize)
    var offset: UInt64 = 0
    while offset < total {
      let count = Int(min(UInt64(Self.windowSize), total - offset))
      try reader.read(ByteOffset(offset), into: actual.mutableSpan(0..<count))
      var window = expected.mutableSpan(0..<count)
      directory.layout.fill(from: offset, sizes: directory.sizes, into: &window)
      copyContents(from: actual.span(0..<count), to: &window, start: offset)
      if !window.span.equals(actual.span(0..<count)) {
        try throwDamage(expected.span(0..<count), actual.span(0..<count), start: offset)
      }
      offset += UInt64(count)
    }
  }

  /// What the stream has around contents, for finding it where nothing should be: its magic, and each name that is long
  /// enough not to turn up by chance, as they are encoded.
  public var frame: [[UInt8]] {
    let names = directory.layout.places.map { place in
      DERHeader(tag: DERHeader.Tag.utf8String, length: place.name.size).bytes + Array(place.name.text.utf8)
        + [DERHeader.Tag.sequence]
    }
    return [StreamLayout.magicBytes] + names.filter { $0.count >= 8 }
  }

  /// Contents may be anything: they are taken over.
  private func copyContents(from actual: Span<UInt8>, to expected: inout MutableSpan<UInt8>, start: UInt64) {
    let places = directory.layout.places
    let end = start + UInt64(actual.count)
    var index = directory.layout.firstPlace(endingAfter: start)
    while index < places.count, places[index].start < end {
      let from = max(start, places[index].content)
      let to = min(end, places[index].content + directory.sizes[index])
      if from < to {
        expected.copy(from: actual.extracting(Int(from - start)..<Int(to - start)), at: Int(from - start))
      }
      index += 1
    }
  }

  private func throwDamage(
    _ expected: Span<UInt8>, _ actual: Span<UInt8>, start: UInt64
  ) throws(BlobStoreError) {
    for i in actual.indices where actual[i] != expected[i] {
      let offset = start + UInt64(i)
      let places = directory.layout.places
      let index = directory.layout.firstPlace(endingAfter: offset)
      let place = index < places.count && places[index].start <= offset ? places[index] : nil
      let what =
        if offset >= streamSize.value { "the byte is not zero, behind the stream's end" } else {
          if let place, offset >= place.content {
            "the byte is not zero, beyond the content's real size"
          } else {
            "a header or padding is not what it must be"
          }
        }
      throw .damaged(what, at: offset, entry: place?.name, store: name)
    }
  }
}
