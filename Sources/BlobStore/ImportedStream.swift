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
      try zeros.check(place, size: size)
    }
    self.items = zip(parsed.layout.places, parsed.sizes).map { place, size in
      Item(specification: place.specification, size: ByteCount(size), offset: ByteOffset(place.content))
    }
  }
}

extension BlobStore {
  /// Replaces the contents of entries by those of an imported stream, all with one commit. The entries exist, with room
  /// enough; nothing may be staged. Durable on return.
  ///
  /// - Throws: `.noSuchEntry` or `.tooLarge` before anything is staged; what `source` or the volume throws. Nothing was
  ///   changed then, unless the volume's commit failed.
  public func importContents(of stream: ImportedStream, from source: StreamSource) throws {
    precondition(changes.isEmpty, "an import begins with nothing staged")
    for item in stream.items {
      let entry = directory.layout.places[try index(of: item.specification.name)]
      guard item.size.value <= entry.capacity else {
        throw BlobStoreError(
          .tooLarge, store: name, entry: entry.name,
          "entry \"\(entry.name)\" has room for \(entry.capacity) bytes, not \(item.size.value)")
      }
    }
    for item in stream.items {
      var done: UInt64 = 0
      try stageReplace(item.specification.name) { (destination) throws in
        var piece = destination
        let count = Int(min(UInt64(piece.count), item.size.value - done))
        guard count > 0 else { return 0 }
        try source(ByteOffset(item.offset.value + done), piece._mutatingExtracting(0..<count))
        done += UInt64(count)
        return count
      }
    }
    try commit()
  }
}
