import Primitives
import SecureVolume

/// The entries of a volume of which sectors may not verify: as many as can be found, and which of them are whole.
///
/// Nothing is guessed: an entry's place is what authentic sectors say, or a layout that the caller knows and that no
/// authentic sector contradicts. Contents, which a guest chooses, are never searched for what looks like an entry.
public final class SalvagedStream {
  /// An entry that was found.
  public struct Found: Sendable {
    public let name: EntryName
    public let capacity: ByteCount
    /// `nil` where the sector that says it doesn't verify; all of the capacity counts as content then.
    public let size: ByteCount?
    let content: UInt64

    /// How many bytes there are to recover.
    public var count: ByteCount { size ?? capacity }
  }

  public let entries: [Found]
  /// Why there may be more entries, or where nothing tells what comes; `nil` where all were found.
  public let problem: String?
  private let volume: any SectorVolume
  private let reader: SectorReader

  /// - Parameter layout: the entries as they were formatted, for where the stream doesn't tell.
  /// - Throws: `.damaged` where `layout` is another than the volume's.
  public init(_ volume: any SectorVolume, layout: StreamLayout? = nil) throws(BlobStoreError) {
    let reader = SectorReader(volume)
    self.volume = volume
    self.reader = reader
    let parser = StreamParser(store: volume.name, available: volume.byteCount) {
      (offset, destination) throws(BlobStoreError) in
      try reader.read(offset, into: destination)
    }
    let (found, problem) = Self.parse(parser)
    guard problem != nil, let layout else {
      entries = found
      self.problem = problem
      return
    }
    try BlobStore.checkSpace(for: layout, in: volume)
    var entries: [Found] = []
    for place in layout.places {
      try Self.compare(place, volume, reader)
      entries.append(
        Found(
          name: place.name, capacity: place.specification.capacity,
          size: Self.size(of: place, reader), content: place.content))
    }
    self.entries = entries
    self.problem = nil
  }

  /// Entry by entry, up to the first whose place can't be told.
  private static func parse(_ parser: StreamParser) -> ([Found], String?) {
    var found: [Found] = []
    do throws(BlobStoreError) {
      let outer = try parser.outerElement()
      var offset = outer.content + StreamLayout.magicSize
      while offset < outer.end {
        let (name, blob) = try parser.nameAndBlob(at: offset, index: found.count, within: outer)
        guard let parts = try parser.blobParts(of: blob, name: name), parts.size <= parts.content.header.length else {
          return (found, "at byte \(offset) of the stream there is no entry as FORMAT 8 has it")
        }
        found.append(
          Found(
            name: name, capacity: ByteCount(parts.content.header.length), size: ByteCount(parts.size),
            content: parts.content.content))
        offset = blob.end
      }
    } catch {
      let after = found.last.map { "behind entry \"\($0.name)\"" } ?? "from its beginning"
      return (found, "the stream can't be followed \(after): \(error.detail)")
    }
    return (found, nil)
  }

  /// The real size, where it can be read and is one.
  private static func size(of place: StreamLayout.Place, _ reader: SectorReader) -> ByteCount? {
    var bytes = [UInt8](repeating: 0, count: 8)
    guard (try? reader.read(ByteOffset(place.sizeField), into: bytes.mutableSpan)) != nil else { return nil }
    let size = bytes.reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    return size <= place.capacity ? ByteCount(size) : nil
  }

  /// What comes before an entry's content must be what the layout says, as far as it can be read.
  private static func compare(
    _ place: StreamLayout.Place, _ volume: any SectorVolume, _ reader: SectorReader
  ) throws(BlobStoreError) {
    let head = place.head(size: 0)
    for (i, byte) in head.enumerated() {
      let offset = place.start + UInt64(i)
      if offset >= place.sizeField, offset < place.sizeField + 8 { continue }
      var actual: [UInt8] = [0]
      do throws(BlobStoreError) { try reader.read(ByteOffset(offset), into: actual.mutableSpan) } catch { continue }
      guard actual[0] == byte else {
        throw .damaged(
          "the entries that were named are not this image's", at: offset, entry: place.name, store: volume.name)
      }
    }
  }

  /// The sectors of an entry's content that don't verify or can't be read.
  public func damagedSectors(of entry: Found) -> [SectorIndex] {
    let size = UInt64(volume.sectorSize)
    guard entry.count.value > 0 else { return [] }
    var scratch = ByteBuffer(count: volume.sectorSize)
    var damaged: [SectorIndex] = []
    for number in entry.content / size...(entry.content + entry.count.value - 1) / size {
      let sector = SectorIndex(number)
      do { try volume.read(sector, into: scratch.mutableSpan) } catch { damaged.append(sector) }
    }
    return damaged
  }

  /// Reads from byte `offset` of an entry's content as much of `destination` as there is; returns how much.
  public func read(
    _ entry: Found, at offset: UInt64, into destination: consuming MutableSpan<UInt8>
  ) throws(BlobStoreError) -> Int {
    let count = Int(min(UInt64(destination.count), entry.count.value - min(offset, entry.count.value)))
    guard count > 0 else { return 0 }
    defer { reader.forget() }
    try reader.read(ByteOffset(entry.content + offset), into: destination._mutatingExtracting(0..<count))
    return count
  }
}
