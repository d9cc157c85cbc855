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

  func hasRoom(for size: UInt64) -> Bool { used + size <= geometry.ringSize }

  /// Where something lies that is `distance` bytes behind `position`.
  func position(_ position: UInt64, plus distance: UInt64) -> UInt64 { (position + distance) % geometry.ringSize }

  /// Appends a record that is durable: the next starts behind it.
  mutating func append(_ record: JournalRecord, mac: InlineBytes32) {
    let size = geometry.recordSize(record.count)
    used += size
    head = JournalCursor(
      position: position(head.position, plus: size), sequence: record.cursor.sequence + 1, chain: mac)
  }

  /// Notes that `sector`'s newest version is the `index`-th in the payload of a record.
  mutating func note(_ sector: SectorIndex, _ index: Int, of record: JournalRecord) {
    let offset = geometry.recordHeadSize(record.count) + index * geometry.blockSize
    versions[sector] = Version(
      position: position(record.cursor.position, plus: UInt64(offset)), sequence: record.cursor.sequence)
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

  /// Begins anew at a place, with nothing before it.
  mutating func restart(at cursor: JournalCursor) { self = Journal(geometry: geometry, at: cursor) }
}

extension Medium {
  /// Copies out of the ring, going on at its start where its end comes in between.
  func read(
    ring geometry: Geometry, at position: UInt64, into buffer: inout ByteBuffer, _ range: Range<Int>
  ) throws(VolumeError) {
    let first = Int(min(UInt64(range.count), geometry.ringSize - position))
    let middle = range.lowerBound + first
    try read(at: geometry.ringOffset + position, into: &buffer, range.lowerBound..<middle)
    if middle < range.upperBound { try read(at: geometry.ringOffset, into: &buffer, middle..<range.upperBound) }
  }

  /// Writes into the ring at a position, which may be past its end.
  mutating func write(
    ring geometry: Geometry, at position: UInt64, _ buffer: borrowing ByteBuffer, _ range: Range<Int>
  ) throws(VolumeError) {
    let position = position % geometry.ringSize
    let first = Int(min(UInt64(range.count), geometry.ringSize - position))
    let middle = range.lowerBound + first
    try write(buffer, range.lowerBound..<middle, at: geometry.ringOffset + position)
    if middle < range.upperBound { try write(buffer, middle..<range.upperBound, at: geometry.ringOffset) }
  }
}
