import BlockIO
import Crypto
import Primitives

/// The one reading of records (FORMAT §7): opening, recovery, salvage, saved headers and copies all read the ring
/// through it.
///
/// It reads in large pieces. What it gives out is authentic: its MAC verified under the store's structure key.
struct JournalReader: ~Copyable {
  private static let windowSize = 1 << 20

  let medium: Medium
  let geometry: Geometry
  private let digest: InlineBytes32
  /// The fixed part, the entries and the MAC of the record that was found last.
  private(set) var head: ByteBuffer
  /// A piece of the ring, and where it starts; what was read before `forget` is not in it.
  private var window: ByteBuffer
  private var windowStart: UInt64 = 0
  private var windowCount = 0
  /// Where a large piece could not be read.
  private var smallWindows: Range<UInt64> = 0..<0
  /// Ciphertext of a payload, some sectors at a time.
  private(set) var payload: ByteBuffer
  /// Bytes of what looks like records and isn't that are still worth reading and hashing: anyone can write them.
  private var mayHash: UInt64

  init(_ medium: Medium, _ geometry: Geometry, digest: InlineBytes32) {
    self.medium = medium
    self.geometry = geometry
    self.digest = digest
    head = ByteBuffer(count: 4096)
    window = ByteBuffer(count: Int(min(UInt64(Self.windowSize), geometry.ringSize)))
    payload = ByteBuffer(count: geometry.batchSize)
    mayHash = geometry.ringSize
  }

  /// Another process may be writing: what comes next is read anew.
  mutating func forget() { windowCount = 0 }

  /// The record that starts at a position, if there is an authentic one, of a number from `sequence` on and of
  /// `epoch`, or of any. Its entries are in `head` then.
  ///
  /// - Throws: `.notAuthentic(.journal)` where the ring holds more forged records than are worth hashing; `.device`.
  mutating func record(
    at position: UInt64, from sequence: UInt64, epoch: InlineBytes16?, with structure: inout StructureMAC
  ) throws(VolumeError) -> JournalRecord? {
    try fill(position, Format.recordHeaderSize)
    guard let claimed = plausible(position, sequence, epoch) else { return nil }
    guard UInt64(claimed.headBytes) <= mayHash else {
      throw VolumeError(
        .notAuthentic(.journal), store: medium.name,
        "the journal holds more forged records than fit; restore the image from a backup")
    }
    if head.count < claimed.headBytes {
      head = ByteBuffer(count: geometry.recordHeadSize(claimed.count))
    }
    try fill(position, claimed.headBytes)
    // Again, since the bytes may have been read again.
    guard let record = plausible(position, sequence, epoch), record.count == claimed.count else { return nil }
    let mac: InlineBytes32
    do { mac = try record.mac(head, digest: digest, with: &structure) } catch {
      throw VolumeError(error, store: medium.name)
    }
    if Mutant.ignoreRecordMAC.isOn || ConstantTime.equals(mac, InlineBytes32(head.span, at: record.macOffset)) {
      return record
    }
    mayHash -= UInt64(record.headBytes)
    return nil
  }

  private func plausible(_ position: UInt64, _ sequence: UInt64, _ epoch: InlineBytes16?) -> JournalRecord? {
    guard let record = JournalRecord(parsing: head.span, geometry: geometry), record.cursor.position == position,
      record.cursor.sequence >= sequence, epoch == nil || record.epoch == epoch
    else { return nil }
    return record
  }

  /// The MAC of the record that was found last.
  func mac(of record: JournalRecord) -> InlineBytes32 { InlineBytes32(head.span, at: record.macOffset) }

  /// Gives the head away, for another of the same use.
  mutating func exchangeHead(with other: inout ByteBuffer) { swap(&head, &other) }

  /// Whether every sector of a record's payload verifies against its entry in `head`.
  mutating func payloadVerifies(_ record: JournalRecord, with sectors: inout SectorSealer) throws(VolumeError) -> Bool {
    try Self.eachBatch(record.count, geometry) { (first, count) throws(VolumeError) in
      try readPayload(record, from: first, count: count)
      return try Self.failing(
        &sectors, payload, head, first: first, count: count, geometry, store: medium.name) == 0
    }
  }

  /// Calls `body` with runs of sectors that fit a batch, until it says false.
  static func eachBatch(
    _ count: Int, _ geometry: Geometry, _ body: (_ first: Int, _ count: Int) throws(VolumeError) -> Bool
  ) throws(VolumeError) -> Bool {
    for first in stride(from: 0, to: count, by: geometry.batch) {
      if try !body(first, min(geometry.batch, count - first)) { return false }
    }
    return true
  }

  /// Which of some sectors of a payload don't verify, a bit each.
  private static func failing(
    _ sectors: inout SectorSealer, _ payload: borrowing ByteBuffer, _ head: borrowing ByteBuffer, first: Int,
    count: Int, _ geometry: Geometry, store: String
  ) throws(VolumeError) -> UInt64 {
    do {
      return try sectors.failing(payload, from: 0, size: geometry.blockSize, count: count) {
        JournalRecord.entry(first + $0, of: head)
      }
    } catch { throw VolumeError(error, store: store) }
  }

  /// Reads sectors of a record's payload into `payload`.
  mutating func readPayload(_ record: JournalRecord, from first: Int, count: Int) throws(VolumeError) {
    let offset = geometry.recordHeadSize(record.count) + first * geometry.blockSize
    let position = (record.cursor.position + UInt64(offset)) % geometry.ringSize
    try medium.read(ring: geometry, at: position, into: &payload, 0..<count * geometry.blockSize)
  }

  /// Puts `count` bytes of the ring from a position on into `head`.
  private mutating func fill(_ position: UInt64, _ count: Int) throws(VolumeError) {
    var done = 0
    while done < count {
      let place = (position + UInt64(done)) % geometry.ringSize
      if place < windowStart || place >= windowStart + UInt64(windowCount) { try load(place) }
      let skipped = Int(place - windowStart)
      let piece = min(count - done, windowCount - skipped)
      head.copy(skipped..<skipped + piece, of: window, at: done)
      done += piece
    }
  }

  private mutating func load(_ place: UInt64) throws(VolumeError) {
    windowCount = 0
    if let count = smallWindows.contains(place) ? nil : loadLarge(place) {
      return (windowStart, windowCount) = (place, count)
    }
    try medium.read(at: geometry.ringOffset + place, into: &window, 0..<geometry.blockSize)
    (windowStart, windowCount) = (place, geometry.blockSize)
  }

  /// How much was read; `nil` where that failed: what lies before a block that can't be read, or before the end of a
  /// file that is too short, is there still, and is read block by block.
  private mutating func loadLarge(_ place: UInt64) -> Int? {
    let count = min(UInt64(window.count), geometry.ringSize - place)
    do throws(VolumeError) { try medium.read(at: geometry.ringOffset + place, into: &window, 0..<Int(count)) } catch {
      smallWindows = place..<place + count
      return nil
    }
    return Int(count)
  }
}

extension Geometry {
  /// Sectors that are read, verified or written together.
  var batch: Int { max(1, min(SectorSealer.mostSectors, (1 << 18) / blockSize)) }
  var batchSize: Int { batch * blockSize }
}
