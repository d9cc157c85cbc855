import Primitives
import SecureVolume

/// Entries of fixed capacity, found by name, in the one stream that a volume holds (FORMAT §8).
///
/// What holds while it is open:
/// - the volume holds the one encoding of `directory`'s layout and committed sizes; bytes beyond an entry's real size
///   are zero (parsing has checked the headers, the first use of an entry's content checks the rest of that entry, and
///   `check` all);
/// - `changes` holds whole sectors as they will be after the next commit, and nothing that a failed call left behind;
/// - reads see what was committed, unless they ask for what is staged.
///
/// Single-threaded: its owner sees to it that calls don't overlap.
public final class BlobStore {
  let volume: any SectorVolume
  let reader: SectorReader
  var directory: EntryDirectory
  var changes: SectorChanges
  var remembered = RememberedContent()
  /// For the parts of sectors that staged reads and moves put together.
  var scratch: ByteBuffer

  /// Reads the headers of the stream in `volume`, and nothing else.
  ///
  /// - Throws: `.damaged` where the volume holds no stream, or one that isn't exactly as FORMAT §8 says.
  public init(_ volume: any SectorVolume) throws(BlobStoreError) {
    let reader = SectorReader(volume)
    let parser = StreamParser(store: volume.name, available: volume.byteCount) {
      (offset, destination) throws(BlobStoreError) in
      try reader.read(offset, into: destination)
    }
    let parsed = try parser.parse()
    reader.forget()
    self.volume = volume
    self.reader = reader
    directory = EntryDirectory(layout: parsed.layout, sizes: parsed.sizes)
    changes = SectorChanges(sectorSize: volume.sectorSize)
    scratch = ByteBuffer(count: volume.sectorSize)
  }

  /// For messages: the image's path.
  public var name: String { volume.name }

  // MARK: Entries

  /// All entries, in the stream's order, with their committed sizes.
  public var entries: [Entry] { directory.layout.places.indices.map { directory.entry(at: $0) } }

  /// The entry of that name, or `nil`.
  public func entry(_ name: EntryName) -> Entry? { directory.index(of: name).map { directory.entry(at: $0) } }

  /// Bytes of the stream; the volume's other bytes are zero.
  public var streamSize: ByteCount { directory.layout.size }

  func index(of name: EntryName) throws(BlobStoreError) -> Int {
    guard let index = directory.index(of: name) else { throw .noSuchEntry(name, store: self.name) }
    return index
  }

  // MARK: Sizes and new stores

  /// Bytes that a volume needs for these entries.
  ///
  /// - Throws: `.overLimit`, and `.exists` where a name comes twice.
  public static func size(of entries: [EntrySpecification]) throws(BlobStoreError) -> ByteCount {
    try StreamLayout(entries).size
  }

  /// Overwrites all of `volume` with a stream of empty entries. The first sector is cleared first and written last, so
  /// that what is cut short is no stream. (A sealed volume gets its first content from `StreamLayout.fillPlaintext`
  /// while it is formatted.) Durable on return.
  ///
  /// - Throws: `.overLimit`, `.exists`, and `.noSpace` with the size that is needed, before anything is written.
  public static func initialise(
    _ volume: any SectorVolume, entries: [EntrySpecification]
  ) throws(BlobStoreError) {
    let layout = try StreamLayout(entries)
    try checkSpace(for: layout, in: volume)
    let batch: UInt64 = 64
    var changes = SectorChanges(sectorSize: volume.sectorSize)
    // A new place is all zeros already.
    _ = changes.append(SectorIndex(UInt64(0)))
    try commit(&changes, to: volume)
    var first: UInt64 = 1
    while first < volume.sectorCount {
      for sector in first..<min(first + batch, volume.sectorCount) {
        add(SectorIndex(sector), of: layout, to: &changes)
      }
      try commit(&changes, to: volume)
      first += batch
    }
    add(SectorIndex(UInt64(0)), of: layout, to: &changes)
    try commit(&changes, to: volume)
  }

  private static func add(_ sector: SectorIndex, of layout: StreamLayout, to changes: inout SectorChanges) {
    let place = changes.append(sector)
    layout.fillPlaintext(sector, sectorSize: changes.sectorSize, into: changes.mutablePlaintext(place))
  }

  private static func commit(
    _ changes: inout SectorChanges, to volume: any SectorVolume
  ) throws(BlobStoreError) {
    do { try volume.commit(changes) } catch { throw BlobStoreError(error) }
    changes.removeAll()
  }

  static func checkSpace(for layout: StreamLayout, in volume: any SectorVolume) throws(BlobStoreError) {
    let available = volume.byteCount
    guard layout.size <= available else {
      throw BlobStoreError(
        .noSpace(needed: layout.size), store: volume.name,
        "holds \(available.value) bytes of entries, and these need \(layout.size.value); make it larger first")
    }
  }

  // MARK: Reading

  /// Reads from byte `offset` of an entry's content as much of `destination` as the content fills.
  ///
  /// The first time since the store was opened, the rest of the entry's encoding is verified, too: all of its capacity
  /// is read.
  ///
  /// - Parameter staged: whether to see what is staged for the next commit.
  /// - Returns: bytes read; 0 at or behind the content's end.
  /// - Throws: `.noSuchEntry`; `.damaged` where the entry isn't as FORMAT §8 says; what the volume throws.
  @discardableResult
  public func read(
    _ name: EntryName, at offset: ByteOffset = ByteOffset(0), into destination: consuming MutableSpan<UInt8>,
    staged: Bool = false
  ) throws(BlobStoreError) -> Int {
    let index = try index(of: name)
    try verify(index)
    let size = staged ? directory.stagedSizes[index] : directory.sizes[index]
    guard offset.value < size else { return 0 }
    let count = Int(min(UInt64(destination.count), size - offset.value))
    guard count > 0 else { return 0 }
    let start = directory.layout.places[index].content + offset.value
    defer { reader.forget() }
    if staged, !changes.isEmpty {
      try readStaged(start, into: destination._mutatingExtracting(0..<count))
    } else {
      try reader.read(ByteOffset(start), into: destination._mutatingExtracting(0..<count))
    }
    if offset.value == 0, UInt64(count) == size, volume.isWritable, changes.isEmpty, !remembered.holds(count, of: index)
    {
      remembered.remember(destination.span.extracting(0..<count), of: index, sectorSize: volume.sectorSize)
    }
    return count
  }

  /// Sees that an entry's padding and what its content doesn't use are zeros, where that isn't known.
  func verify(_ index: Int) throws(BlobStoreError) {
    guard !directory.verified[index] else { return }
    defer { reader.forget() }
    let zeros = ZeroCheck(store: name) { [reader] (offset, destination) throws(BlobStoreError) in
      try reader.read(offset, into: destination)
    }
    try zeros.check(directory.layout.places[index], size: directory.sizes[index])
    directory.noteVerified(index)
  }

  /// All of an entry's content.
  ///
  /// - Throws: `.tooLarge` where there are more than `limit` bytes, before memory is taken.
  public func read(
    _ name: EntryName, limit: Int, staged: Bool = false
  ) throws(BlobStoreError) -> [UInt8] {
    let index = try index(of: name)
    let size = staged ? directory.stagedSizes[index] : directory.sizes[index]
    guard size <= UInt64(max(0, limit)) else {
      throw BlobStoreError(
        .tooLarge, store: self.name, entry: name, "entry \"\(name)\" has \(size) bytes, and \(limit) are the limit here"
      )
    }
    var content = [UInt8](repeating: 0, count: Int(size))
    try read(name, into: content.mutableSpan, staged: staged)
    return content
  }

  /// Reads what will be there after the next commit, from byte `start` of the stream.
  private func readStaged(
    _ start: UInt64, into destination: consuming MutableSpan<UInt8>
  ) throws(BlobStoreError) {
    let size = UInt64(volume.sectorSize)
    var done = 0
    while done < destination.count {
      let place = start + UInt64(done)
      let skipped = Int(place % size)
      let count = min(destination.count - done, volume.sectorSize - skipped)
      if let change = changes.place(of: SectorIndex(place / size)) {
        destination.copy(from: changes.plaintext(change).extracting(skipped..<skipped + count), at: done)
      } else {
        try reader.read(ByteOffset(place), into: destination._mutatingExtracting(done..<done + count))
      }
      done += count
    }
  }
}
