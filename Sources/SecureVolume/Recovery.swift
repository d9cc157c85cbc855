import BlockIO
import Crypto
import Primitives

/// From a verified header to an open volume: what the journal holds is replayed in memory, the tree is verified, and,
/// for writing, what was recovered is made durable before it is served (FORMAT §7, Recovery).
enum Recovery {
  /// Opens for reading, or for writing where the device is open for that.
  static func open(
    medium: consuming Medium, keys: consuming VolumeKeys, choice: HeaderPair.Choice, anchor: AnchorUse? = nil
  ) throws(VolumeError) -> SecureVolume {
    guard medium.device.isWritable else {
      let volume = try read(medium: medium, keys: keys, choice: choice, mode: .strict)
      if let anchor { try volume.consult(anchor.anchor) }
      return volume
    }
    var replay = try Replay(medium: medium, keys: keys, header: choice.header)
    try replay.run()
    let opening = replay.report(choice)
    var last: LastRecord?
    let volume = replay.volumeBeforeLast(opening, last: &last)
    // Before the first write.
    var known: NewestRecord?
    if let anchor {
      let moment = VolumeMoment(choice.header, opening.generation, chain: last?.mac ?? volume.journal.head.chain)
      if anchor.isAccepting { known = try volume.mayAccept(anchor, moment) } else { try volume.consult(anchor.anchor) }
    }
    try volume.checkNumbers(last)
    try volume.checkAnchorNumbers()
    try volume.medium.allocate(volume.geometry.imageSize)
    try volume.confirmAnchor()
    let anchoring = volume.anchoring
    // What is recovered goes into both headers first: until then the anchor is not told of it.
    volume.anchoring = nil
    do { try makeDurable(volume, choice, &last) } catch {
      volume.medium.giveUp(error)
      throw error
    }
    volume.anchoring = anchoring
    if let anchor, anchor.isAccepting {
      try volume.accept(anchor.anchor, after: known)
    } else {
      try volume.advanceAnchor(.opening)
    }
    return volume
  }

  /// Opens for reading, whatever the device is open for: nothing is written.
  static func read(
    medium: Medium, keys: consuming VolumeKeys, choice: HeaderPair.Choice, mode: ReplayMode
  ) throws(VolumeError) -> SecureVolume {
    var replay = try Replay(medium: medium, keys: keys, header: choice.header, mode: mode)
    try replay.run()
    let opening = replay.report(choice)
    return replay.volume(opening)
  }

  /// Steps 2 to 5. What was read need not be on the medium: a failed sync leaves in caches what the device never had,
  /// and no read tells. So both header copies are written as they were read; the records before the last, which were
  /// synced before it was begun, are checkpointed; the last one is appended once more, in the new epoch, and counts
  /// from there.
  private static func makeDurable(
    _ volume: SecureVolume, _ choice: HeaderPair.Choice, _ last: inout LastRecord?
  ) throws(VolumeError) {
    // What a write that failed left in a cache goes first: else one copy could be torn by that, and the other by this.
    if !choice.copiesToRewrite.isEmpty { try volume.medium.sync() }
    for copy in choice.copiesToRewrite { try volume.writeHeader(choice.header, copy: copy) }
    if choice.needsNextNumber { try volume.writeHeaders(volume.nextHeader()) }
    if Mutant.believeTheCache.isOn, let believed = last.take() { volume.publish(believed) }
    if !volume.journal.isEmpty {
      try volume.startCheckpoint()
      try volume.finishCheckpoint()
    }
    let epoch: InlineBytes16
    do { epoch = Mutant.reuseEpoch.isOn ? choice.header.epoch : try Random.bytes16() } catch {
      throw VolumeError(error, store: volume.name)
    }
    var next = try volume.nextHeader()
    next.isClean = false
    try volume.beginEpoch(epoch, in: &next)
    guard let last = last.take() else { return try volume.writeHeaders(next) }
    let (record, mac) = try volume.appendAnew(last, epoch)
    next.cursor = record.cursor
    try volume.writeHeaders(next)
    volume.journal.restart(at: record.cursor)
    volume.publish(record, mac: mac)
    volume.releaseRecord()
  }
}

extension SecureVolume {
  /// Whether every number that recovery writes is one, before it writes anything.
  fileprivate func checkNumbers(_ last: borrowing LastRecord?) throws(VolumeError) {
    _ = try counted(try counted(try counted(header.sequence, "its headers"), "its headers"), "its headers")
    // With the last record, which is appended anew under the next number; and at least one commit more.
    switch last {
    case .some(let last):
      _ = try counted(try counted(last.record.cursor.sequence, "its records"), "its records")
      _ = try counted(last.record.generation.value, "its generations")
    case .none:
      _ = try counted(journal.head.sequence, "its records")
      _ = try counted(generation.value, "its generations")
    }
  }

  /// Appends the last record's sectors again, behind it, as the first record of an epoch: the same commit, durable on
  /// return. The record itself stays where it is and as it is, since a power cut could tear it.
  fileprivate func appendAnew(
    _ last: borrowing LastRecord, _ epoch: InlineBytes16
  ) throws(VolumeError) -> (JournalRecord, InlineBytes32) {
    let (count, headSize) = (last.record.count, geometry.recordHeadSize(last.record.count))
    let old = last.record.cursor.position
    let cursor = JournalCursor(
      position: journal.position(old, plus: geometry.recordSize(count)), sequence: last.record.cursor.sequence + 1,
      chain: journal.head.chain)
    let next = JournalRecord(count: count, generation: last.record.generation, epoch: epoch, cursor: cursor)
    if Mutant.inPlaceBeforeAppended.isOn { try putInPlace(last) }
    for first in stride(from: 0, to: count, by: geometry.batch) {
      let some = min(geometry.batch, count - first)
      let offset = UInt64(headSize + first * sectorSize)
      try readPayload(of: last, first, some)
      try medium.write(ring: geometry, at: cursor.position + offset, ciphertext, 0..<some * sectorSize)
    }
    reserveRecord(headSize)
    record.copy(from: last.head.span(0..<last.record.headBytes))
    let mac = try finish(next, headSize: headSize)
    try medium.write(ring: geometry, at: cursor.position, record, 0..<headSize)
    try medium.sync()
    return (next, mac)
  }

  /// Reads some sectors of a payload into `ciphertext`, verified once more.
  private func readPayload(of last: borrowing LastRecord, _ first: Int, _ count: Int) throws(VolumeError) {
    let offset = geometry.recordHeadSize(last.record.count) + first * sectorSize
    try medium.read(
      ring: geometry, at: journal.position(last.record.cursor.position, plus: UInt64(offset)), into: &ciphertext,
      0..<count * sectorSize)
    let failing: UInt64
    do {
      failing = try keys.sectors.failing(ciphertext, from: 0, size: sectorSize, count: count) {
        JournalRecord.entry(first + $0, of: last.head)
      }
    } catch { throw VolumeError(error, store: name) }
    guard failing == 0 else {
      throw VolumeError(
        .notAuthentic(.journal), store: name,
        "the last record of its journal was changed while it was recovered; restore the image from a backup")
    }
  }

  /// A fault on purpose: nothing of the last record may go in place before it was appended anew.
  private func putInPlace(_ last: borrowing LastRecord) throws(VolumeError) {
    for i in 0..<last.record.count {
      try readPayload(of: last, i, 1)
      let sector = JournalRecord.entry(i, of: last.head).sector
      try medium.write(ciphertext, 0..<sectorSize, at: geometry.place(of: sector).value)
    }
  }

  /// Another fault on purpose: the last record counts where it lies.
  fileprivate func publish(_ last: consuming LastRecord) {
    reserveRecord(last.record.headBytes)
    record.copy(from: last.head.span(0..<last.record.headBytes))
    publish(last.record, mac: last.mac)
  }
}
