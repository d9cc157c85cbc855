import Primitives

/// Where everything lies in the stream of a list of entries (FORMAT §8). A pure function of names and capacities; a
/// value of this type is within all limits, so that nothing computed from it overflows.
public struct StreamLayout: Sendable {
  /// One entry's place. All offsets are from the start of the stream.
  struct Place: Equatable, Sendable {
    let specification: EntrySpecification
    /// Of the entry's SEQUENCE.
    let start: UInt64
    /// Bytes that the padding element takes; 0 where there is none.
    let padding: UInt64
    /// Of the content's first byte.
    let content: UInt64

    var name: EntryName { specification.name }
    var capacity: UInt64 { specification.capacity.value }
    /// The first byte behind the entry.
    var end: UInt64 { content + capacity }
    var contentHeader: DERHeader { DERHeader(tag: DERHeader.Tag.octetString, length: capacity) }
    var blobHeader: DERHeader {
      let length = Self.sizeElement + padding + contentHeader.elementSize
      return DERHeader(tag: DERHeader.Tag.sequence, length: length)
    }
    var entryHeader: DERHeader {
      DERHeader(tag: DERHeader.Tag.sequence, length: UInt64(2 + name.size) + blobHeader.elementSize)
    }
    /// Of the eight bytes that hold the real size.
    var sizeField: UInt64 { content - UInt64(contentHeader.size) - padding - 8 }

    /// The element that holds the real size: header and eight bytes.
    static let sizeElement: UInt64 = 10
  }

  /// The magic's text.
  static let magic = "qemu-nvram"
  /// The magic's element: header and text.
  static let magicSize: UInt64 = 12
  /// Contents of at least this many bytes begin at a multiple of it.
  static let alignment: UInt64 = 4096

  let places: [Place]
  /// The outer SEQUENCE.
  let header: DERHeader
  /// What the stream takes, in bytes.
  public var size: ByteCount { ByteCount(header.elementSize) }

  /// - Throws: `.overLimit`, and `.exists` where a name comes twice.
  public init(_ entries: [EntrySpecification]) throws(BlobStoreError) {
    try Self.check(entries)
    // The outer header's size moves everything and follows from what it moves. Nearly always one size fits; where a
    // total is just at the edge between two, the first aligned entry moves on until one does.
    for skipped in 0..<8 {
      for headerSize in 2...8 {
        let places = Self.places(entries, headerSize: headerSize, skipped: skipped)
        let end = places.last?.end ?? UInt64(headerSize) + Self.magicSize
        let header = DERHeader(tag: DERHeader.Tag.sequence, length: end - UInt64(headerSize))
        if header.size == headerSize {
          self.places = places
          self.header = header
          return
        }
      }
    }
    preconditionFailure("totals of two header sizes differ by two pages at most: moving by more settles it")
  }

  private static func check(_ entries: [EntrySpecification]) throws(BlobStoreError) {
    guard entries.count <= EntrySpecification.maximumCount else {
      throw BlobStoreError(
        .overLimit, store: nil, "\(entries.count) entries are more than the \(EntrySpecification.maximumCount) allowed")
    }
    var names = Set<EntryName>()
    for entry in entries {
      guard (1...EntrySpecification.maximumCapacity).contains(entry.capacity.value) else {
        throw BlobStoreError(
          .overLimit, store: nil, entry: entry.name,
          "entry \"\(entry.name)\": a capacity is 1 to \(EntrySpecification.maximumCapacity) bytes, "
            + "not \(entry.capacity.value)")
      }
      guard names.insert(entry.name).inserted else {
        throw BlobStoreError(.exists, store: nil, entry: entry.name, "there is an entry \"\(entry.name)\" already")
      }
    }
  }

  private static func places(_ entries: [EntrySpecification], headerSize: Int, skipped: Int) -> [Place] {
    var offset = UInt64(headerSize) + magicSize
    var skipped = skipped
    var places: [Place] = []
    places.reserveCapacity(entries.count)
    for entry in entries {
      let place: Place
      if entry.capacity.value < alignment {
        place = Self.place(entry, at: offset, padding: 0)
      } else {
        place = aligned(entry, at: offset)[skipped]
        skipped = 0
      }
      places.append(place)
      offset = place.end
    }
    return places
  }

  private static func place(_ entry: EntrySpecification, at start: UInt64, padding: UInt64) -> Place {
    let draft = Place(specification: entry, start: start, padding: padding, content: 0)
    let content =
      start + UInt64(draft.entryHeader.size + 2 + entry.name.size + draft.blobHeader.size)
      + Place.sizeElement + padding + UInt64(draft.contentHeader.size)
    return Place(specification: entry, start: start, padding: padding, content: content)
  }

  /// The places with aligned content, the shortest padding first; at least eight. More padding can lengthen the two
  /// headers around it by a byte each, so the paddings to try are those that fit one of three sizes of these.
  private static func aligned(_ entry: EntrySpecification, at start: UInt64) -> [Place] {
    let unpadded = place(entry, at: start, padding: 0).content
    var found: [Place] = []
    for page in 0..<UInt64(12) {
      for longer in 0...UInt64(2) {
        let reach = (unpadded + longer) % alignment
        let padding = (reach == 0 ? 0 : alignment - reach) + page * alignment
        guard padding == 0 || paddingLength(padding) != nil else { continue }
        let candidate = place(entry, at: start, padding: padding)
        if candidate.content == unpadded + longer + padding { found.append(candidate) }
      }
    }
    return found.sorted { $0.padding < $1.padding }
  }

  /// The bytes of content of an element that takes `count` bytes; `nil` where none does: 1, 130 and 259 fall between
  /// two sizes of the header.
  static func paddingLength(_ count: UInt64) -> UInt64? {
    for size in UInt64(2)...5 where count >= size && DERHeader.size(length: count - size) == Int(size) {
      return count - size
    }
    return nil
  }

  /// The index of the first place that ends behind `offset`; the number of places where none does.
  func firstPlace(endingAfter offset: UInt64) -> Int {
    var (low, high) = (0, places.count)
    while low < high {
      let middle = (low + high) / 2
      if places[middle].end > offset { high = middle } else { low = middle + 1 }
    }
    return low
  }
}
