import BlockIO
import Primitives

/// The ring and what of it counts (FORMAT §7): from `tail`, where recovery would begin, to `head`, where the next
/// record goes. It knows places and sizes, not keys.
struct Journal: Sendable {
  /// A version of a sector that lies in the ring and not yet in place.
  struct Version: Sendable {
    /// Where its ciphertext starts, from the start of the ring.
    let position: UInt64
    /// The record's number.
    let sequence: UInt64
  }

  let geometry: Geometry
  /// Where recovery would start.
  private(set) var tail: JournalCursor
  /// Where the next record goes.
  private(set) var head: JournalCursor
  /// Bytes from tail to head. Kept apart, since a full ring and an empty one have tail == head alike.
  private(set) var used: UInt64 = 0
  /// The newest version of each sector that is in the ring.
  private(set) var versions: [SectorIndex: Version] = [:]

  init(geometry: Geometry, at cursor: JournalCursor) {
    self.geometry = geometry
    tail = cursor
    head = cursor
  }

  var isEmpty: Bool { used == 0 }

  /// Whether a record of `size` bytes fits and leaves room for the images of a checkpoint.
  func hasRoom(for size: UInt64) -> Bool { used + size + geometry.maximumImagesSize <= geometry.ringSize }

  /// Appends a record that is durable: the next starts behind it.
  mutating func append(size: UInt64, mac: InlineBytes32) {
    used += size
    head = JournalCursor(
      position: (head.position + size) % geometry.ringSize, sequence: head.sequence + 1, chain: mac)
  }

  /// Notes that `sector`'s newest version is `offset` bytes into the record that starts at `record`.
  mutating func note(_ sector: SectorIndex, record: JournalCursor, offset: UInt64) {
    versions[sector] = Version(position: (record.position + offset) % geometry.ringSize, sequence: record.sequence)
  }

  /// Takes a version of a sector that belongs to no journal that counts, when salvaging.
  mutating func adopt(_ sector: SectorIndex, at position: UInt64, sequence: UInt64) {
    versions[sector] = Version(position: position, sequence: sequence)
  }

  /// Frees everything before `cursor`, once both headers say so.
  mutating func release(upTo cursor: JournalCursor) {
    let size = geometry.ringSize
    let freed = (cursor.position + size - tail.position) % size
    // All of a full ring is freed when the cursor is back where the tail is.
    used -= freed == 0 && cursor.sequence != tail.sequence ? used : freed
    tail = cursor
    versions = versions.filter { $0.value.sequence >= cursor.sequence }
  }

  /// Copies out of the ring, going on at its start where its end comes in between.
  func read(
    _ device: any BlockDevice, at position: UInt64, into buffer: inout ByteBuffer, _ range: Range<Int>
  ) throws(BlockError) {
    let first = Int(min(UInt64(range.count), geometry.ringSize - position))
    try device.read(
      at: ByteOffset(geometry.ringOffset + position),
      into: buffer.mutableSpan(range.lowerBound..<range.lowerBound + first))
    guard first < range.count else { return }
    try device.read(
      at: ByteOffset(geometry.ringOffset), into: buffer.mutableSpan(range.lowerBound + first..<range.upperBound))
  }

  /// Writes a whole record at the head.
  func write(_ device: any BlockDevice, _ buffer: borrowing ByteBuffer, size: Int) throws(BlockError) {
    let first = Int(min(UInt64(size), geometry.ringSize - head.position))
    try device.write(buffer.span(0..<first), at: ByteOffset(geometry.ringOffset + head.position))
    guard first < size else { return }
    try device.write(buffer.span(first..<size), at: ByteOffset(geometry.ringOffset))
  }
}
