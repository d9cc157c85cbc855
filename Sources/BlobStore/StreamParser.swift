import Primitives

/// Fills a span from a place of a stream. The place and the length lie within the total that was named.
public typealias StreamSource = (ByteOffset, consuming MutableSpan<UInt8>) throws(BlobStoreError) -> Void

/// Reads a stream's headers, and nothing of the contents. Strict: a stream that isn't the one encoding of its list of
/// entries is refused. Whether padding, unused capacity and the bytes behind the stream are zero is for
/// `BlobStore.check`, since that takes reading all of it.
struct StreamParser {
  /// What the headers say.
  struct Result {
    let layout: StreamLayout
    let sizes: [UInt64]
  }

  /// An element within the stream.
  struct Element {
    let header: DERHeader
    let start: UInt64
    var content: UInt64 { start + UInt64(header.size) }
    var end: UInt64 { start + header.elementSize }
  }

  private let source: StreamSource
  /// Bytes that may belong to the stream.
  private let available: UInt64
  let store: String

  init(store: String, available: ByteCount, source: @escaping StreamSource) {
    self.store = store
    self.available = available.value
    self.source = source
  }

  /// Parses a stream of this program.
  func parse() throws(BlobStoreError) -> Result {
    let outer = try outerElement()
    var specifications: [EntrySpecification] = []
    var contents: [UInt64] = []
    var sizes: [UInt64] = []
    var offset = outer.content + StreamLayout.magicSize
    while offset < outer.end {
      let (name, blob) = try nameAndBlob(at: offset, index: contents.count, within: outer)
      guard let parts = try blobParts(of: blob, name: name) else {
        throw .damaged("the blob is not of the form that FORMAT 8 gives", at: blob.start, entry: name, store: store)
      }
      guard parts.size <= parts.content.header.length else {
        throw .damaged("the real size is above the capacity", at: blob.content + 2, entry: name, store: store)
      }
      let capacity = ByteCount(parts.content.header.length)
      specifications.append(EntrySpecification(name: name, capacity: capacity))
      contents.append(parts.content.content)
      sizes.append(parts.size)
      offset = blob.end
    }
    let layout = try layout(of: specifications, at: outer.content)
    for (place, content) in zip(layout.places, contents) where place.content != content {
      throw .damaged("the padding is not as FORMAT 8 has it", at: place.start, entry: place.name, store: store)
    }
    guard layout.header == outer.header else {
      throw .damaged("the padding is not as FORMAT 8 has it", at: 0, store: store)
    }
    return Result(layout: layout, sizes: sizes)
  }

  private func layout(
    of specifications: [EntrySpecification], at offset: UInt64
  ) throws(BlobStoreError) -> StreamLayout {
    do { return try StreamLayout(specifications) } catch {
      throw .damaged(error.detail, at: offset, entry: error.entry, store: store)
    }
  }

  /// The outer SEQUENCE, whose magic is right.
  func outerElement() throws(BlobStoreError) -> Element {
    let outer = try element(DERHeader.Tag.sequence, at: 0, within: available, "the stream")
    let magic = try element(DERHeader.Tag.utf8String, at: outer.content, within: outer.end, "the magic")
    guard magic.header.elementSize == StreamLayout.magicSize,
      try bytes(of: magic) == Array(StreamLayout.magic.utf8)
    else { throw .damaged("the magic \"\(StreamLayout.magic)\" is not there", at: magic.start, store: store) }
    return outer
  }

  /// The two parts of the entry at `offset`: they fill it.
  func nameAndBlob(
    at offset: UInt64, index: Int, within outer: Element
  ) throws(BlobStoreError) -> (EntryName, Element) {
    guard index < EntrySpecification.maximumCount else {
      throw .damaged("more than \(EntrySpecification.maximumCount) entries", at: offset, store: store)
    }
    let entry = try element(DERHeader.Tag.sequence, at: offset, within: outer.end, "an entry")
    let text = try element(DERHeader.Tag.utf8String, at: entry.content, within: entry.end, "a name")
    guard text.header.length <= UInt64(EntryName.maximumSize), let name = EntryName(try bytes(of: text)) else {
      throw .damaged("the name is not valid", at: text.start, store: store)
    }
    let blob = try element(nil, at: text.end, within: entry.end, "a blob", of: name)
    guard blob.end == entry.end else {
      throw .damaged("something follows the blob", at: blob.end, entry: name, store: store)
    }
    return (name, blob)
  }

  /// Real size and content of a blob of this program's form; `nil` where it has another.
  func blobParts(of blob: Element, name: EntryName) throws(BlobStoreError) -> (size: UInt64, content: Element)? {
    guard blob.header.tag == DERHeader.Tag.sequence, blob.header.length > 0 else { return nil }
    let size = try element(nil, at: blob.content, within: blob.end, "the real size", of: name)
    guard size.header == DERHeader(tag: DERHeader.Tag.octetString, length: 8), size.end < blob.end else { return nil }
    var content = try element(nil, at: size.end, within: blob.end, "the content", of: name)
    if content.header.tag == DERHeader.Tag.padding {
      guard content.end < blob.end else { return nil }
      content = try element(nil, at: content.end, within: blob.end, "the content", of: name)
    }
    guard content.header.tag == DERHeader.Tag.octetString, content.end == blob.end else { return nil }
    let value = try bytes(of: size).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    return (value, content)
  }

  /// The element at `offset`, which ends within `end`.
  private func element(
    _ tag: UInt8?, at offset: UInt64, within end: UInt64, _ what: String, of name: EntryName? = nil
  ) throws(BlobStoreError) -> Element {
    // Not a byte more than the header has: what follows may lie in a sector that can't be read.
    var head = [UInt8](repeating: 0, count: Int(min(2, end - offset)))
    if !head.isEmpty { try source(ByteOffset(offset), head.mutableSpan) }
    if head.count == 2, head[1] > 0x80 {
      let size = min(2 + Int(head[1] & 0x7F), DERHeader.maximumSize)
      head = [UInt8](repeating: 0, count: Int(min(UInt64(size), end - offset)))
      try source(ByteOffset(offset), head.mutableSpan)
    }
    let header: DERHeader
    do {
      header = try DERHeader(head.span, at: 0)
    } catch {
      throw .damaged("\(error.text), in place of \(what)", at: offset, entry: name, store: store)
    }
    guard tag == nil || tag == header.tag else {
      throw .damaged("\(what) has not its tag", at: offset, entry: name, store: store)
    }
    guard UInt64(header.size) <= end - offset, header.length <= end - offset - UInt64(header.size) else {
      throw .damaged("\(what) is longer than what holds it", at: offset, entry: name, store: store)
    }
    return Element(header: header, start: offset)
  }

  /// The content of a short element.
  private func bytes(of element: Element) throws(BlobStoreError) -> [UInt8] {
    precondition(element.header.length <= UInt64(EntryName.maximumSize))
    var bytes = [UInt8](repeating: 0, count: Int(element.header.length))
    if !bytes.isEmpty { try source(ByteOffset(element.content), bytes.mutableSpan) }
    return bytes
  }
}
