import Crypto
import Primitives

// Committing (FORMAT §7): one record, one sync.
extension SecureVolume {
  private static let retainedRecordSize = 1 << 20

  /// Writes all of `changes` as one record: one append, one sync. Durable on return; the generation is one higher.
  ///
  /// Beside the changes it takes memory for the record's head and a batch of sectors, however many there are.
  public func commit(_ changes: borrowing SectorChanges) throws(VolumeError) {
    precondition(changes.sectorSize == sectorSize && !isClosed)
    guard !changes.isEmpty else { return }
    try medium.mayWrite()
    if anchoring != nil { try keepToAnchorBound() }
    _ = try counted(generation.value, "its generations")
    _ = try counted(journal.head.sequence, "its records")
    try makeRoom(for: geometry.recordSize(changes.count))
    let next = JournalRecord(
      count: changes.count, generation: generation.next, epoch: header.epoch, cursor: journal.head)
    let mac = try write(next, changes)
    if !Mutant.skipTheSync.isOn, !Mutant.acknowledgeBeforeSync.isOn { try medium.sync() }
    publish(next, mac: mac)
    releaseRecord()
  }

  /// Writes the record, the payload in batches and the head last, in one piece where that fits; nothing is synced.
  private func write(_ next: JournalRecord, _ changes: borrowing SectorChanges) throws(VolumeError) -> InlineBytes32 {
    let headSize = geometry.recordHeadSize(next.count)
    reserveRecord(headSize + geometry.batchSize)
    let order = changes.placesInSectorOrder
    var first = 0
    while true {
      let count = min(geometry.batch, next.count - first)
      do { try seal(changes, order, first, count, at: headSize) } catch { throw VolumeError(error, store: name) }
      if first + count == next.count { break }
      try medium.write(
        ring: geometry, at: next.cursor.position + UInt64(headSize + first * sectorSize), record,
        headSize..<headSize + count * sectorSize)
      first += count
    }
    let mac = try finish(next, headSize: headSize)
    if Mutant.acknowledgeBeforeSync.isOn { try medium.sync() }
    let last = (next.count - first) * sectorSize
    if first == 0 {
      try medium.write(ring: geometry, at: next.cursor.position, record, 0..<headSize + last)
    } else {
      try medium.write(
        ring: geometry, at: next.cursor.position + UInt64(headSize + first * sectorSize), record,
        headSize..<headSize + last)
      try medium.write(ring: geometry, at: next.cursor.position, record, 0..<headSize)
    }
    return mac
  }

  /// Encrypts some of the changes into `record` behind its head, and enters them there.
  private func seal(
    _ changes: borrowing SectorChanges, _ order: [Int], _ first: Int, _ count: Int, at headSize: Int
  ) throws(CryptoError) {
    for i in 0..<count {
      try keys.sectors.encrypt(
        changes.plaintext(order[first + i]), i, sector: changes.sectors[order[first + i]], into: &record,
        at: headSize + i * sectorSize)
    }
    try keys.sectors.tag(record, from: headSize, size: sectorSize, count: count)
    for i in 0..<count {
      JournalRecord.storeEntry(first + i, changes.sectors[order[first + i]], keys.sectors.leaf(i), to: &record)
    }
  }

  /// Completes the head in `record`, whose entries are there, with MAC and padding.
  func finish(_ next: JournalRecord, headSize: Int) throws(VolumeError) -> InlineBytes32 {
    next.encode(to: &record)
    let mac: InlineBytes32
    do { mac = try next.mac(record, digest: digest, with: &keys.structure) } catch {
      throw VolumeError(error, store: name)
    }
    record.store(mac, at: next.macOffset)
    record.wipe(next.headBytes..<headSize)
    return mac
  }

  /// Makes a durable record, whose head is in `record`, the truth.
  func publish(_ next: JournalRecord, mac: InlineBytes32) {
    for i in 0..<next.count {
      let (sector, leaf) = JournalRecord.entry(i, of: record)
      leaves[sector] = leaf
      journal.note(sector, i, of: next)
    }
    journal.append(next, mac: mac)
    generation = next.generation
  }

  func reserveRecord(_ size: Int) {
    if record.count < size { record = ByteBuffer(count: size) }
  }

  /// Gives the memory of a large record back.
  func releaseRecord() {
    if record.count > Self.retainedRecordSize {
      record = ByteBuffer(count: geometry.recordHeadSize(1) + geometry.batchSize)
    }
  }

  /// Runs checkpoints until a record of `size` bytes fits.
  private func makeRoom(for size: UInt64) throws(VolumeError) {
    while !journal.hasRoom(for: size) {
      if checkpoint == nil { try startCheckpoint() }
      try finishCheckpoint()
    }
  }
}
