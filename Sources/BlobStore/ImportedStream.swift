import Primitives

/// A plain 2013 stream, read for import. Two kinds are told apart:
/// - the stream of this program (FORMAT §8), where every blob has its form; it must be the one encoding of its entries;
/// - a stream of the 2013 design, where at least one blob is another DER element, as devices defined them. Then every
///   blob is taken as it is: header and content, byte for byte, are the entry's content, which fills its capacity.
///
/// Either way lengths are minimal, names valid and unique, and only zeros follow the stream.
public struct ImportedStream: Sendable {
  public struct Item: Hashable, Sendable {
    public let specification: EntrySpecification
    /// Bytes of content.
    public let size: ByteCount
    /// Where the content begins in the source.
    public let offset: ByteOffset
  }

  public let items: [Item]
  /// Whether this program wrote it, and not a device's own ASN.1.
  public let hasSizes: Bool

  public var specifications: [EntrySpecification] { items.map(\.specification) }

  /// Reads the headers of a stream, and sees that padding, unused capacity and what follows the stream are zero.
  ///
  /// - Parameters:
  ///   - name: for messages: the file.
  ///   - total: bytes that `source` has.
  /// - Throws: `.damaged` with the place; what `source` throws.
  public init(name: String, total: ByteCount, from source: @escaping StreamSource) throws(BlobStoreError) {
    let parser = StreamParser(store: name, available: total, source: source)
    let outer = try parser.outerElement()
    var items: [Item] = []
    var names = Set<EntryName>()
    var hasSizes = true
    var offset = outer.content + StreamLayout.magicSize
    while offset < outer.end {
      let (entry, blob) = try parser.nameAndBlob(at: offset, index: items.count, within: outer)
      guard names.insert(entry).inserted else {
        throw .damaged("the name comes twice", at: offset, entry: entry, store: name)
      }
      guard blob.header.elementSize <= EntrySpecification.maximumCapacity else {
        throw .damaged("the blob is too large for an entry", at: blob.start, entry: entry, store: name)
      }
      if hasSizes { hasSizes = try parser.blobParts(of: blob, name: entry) != nil }
      let size = ByteCount(blob.header.elementSize)
      items.append(
        Item(
          specification: EntrySpecification(name: entry, capacity: size), size: size, offset: ByteOffset(blob.start)))
      offset = blob.end
    }
    self.hasSizes = hasSizes
    let zeros = ZeroCheck(store: name, source: source)
    try zeros.check(outer.end..<total.value, "what follows the stream", entry: nil)
    guard hasSizes else {
      self.items = items
      return
    }
    let parsed = try parser.parse()
    for (place, size) in zip(parsed.layout.places, parsed.sizes) {
      let head = place.content - UInt64(place.contentHeader.size)
      let length = StreamLayout.paddingLength(place.padding) ?? 0
      try zeros.check(head - length..<head, "the padding", entry: place.name)
      try zeros.check(place.content + size..<place.end, "what lies beyond the real size", entry: place.name)
    }
    self.items = zip(parsed.layout.places, parsed.sizes).map { place, size in
      Item(specification: place.specification, size: ByteCount(size), offset: ByteOffset(place.content))
    }
  }
}

extension BlobStore {
  /// Replaces the contents of entries by those of an imported stream. The entries exist, with room enough. Each goes
  /// out in a commit of its own, durable on return; nothing may be staged.
  ///
  /// - Throws: `.noSuchEntry` or `.tooLarge` before anything is written; what `source` or the volume throws.
  public func importContents(of stream: ImportedStream, from source: StreamSource) throws(BlobStoreError) {
    precondition(changes.isEmpty, "an import begins with nothing staged")
    for item in stream.items {
      let entry = directory.layout.places[try index(of: item.specification.name)]
      guard item.size.value <= entry.capacity else {
        throw BlobStoreError(
          .tooLarge, store: name, entry: entry.name,
          "entry \"\(entry.name)\" has room for \(entry.capacity) bytes, not \(item.size.value)")
      }
    }
    var window = ByteBuffer(count: 65536)
    for item in stream.items {
      do {
        try stageReplace(item.specification.name, Span())
        var done: UInt64 = 0
        while done < item.size.value {
          let count = Int(min(UInt64(window.count), item.size.value - done))
          try source(ByteOffset(item.offset.value + done), window.mutableSpan(0..<count))
          try stage(item.specification.name, at: ByteOffset(done), window.span(0..<count))
          done += UInt64(count)
        }
      } catch {
        rollBackStaged()
        throw error
      }
      try commit()
    }
  }
}

/// Sees that a range of a source is all zeros.
private struct ZeroCheck {
  let store: String
  let source: StreamSource

  func check(_ range: Range<UInt64>, _ what: String, entry: EntryName?) throws(BlobStoreError) {
    guard !range.isEmpty else { return }
    var window = ByteBuffer(count: Int(min(65536, UInt64(range.count))))
    var offset = range.lowerBound
    while offset < range.upperBound {
      let count = Int(min(UInt64(window.count), range.upperBound - offset))
      try source(ByteOffset(offset), window.mutableSpan(0..<count))
      for i in 0..<count where window.span[i] != 0 {
        throw .damaged("\(what) is not zero", at: offset + UInt64(i), entry: entry, store: store)
      }
      offset += UInt64(count)
    }
  }
}
