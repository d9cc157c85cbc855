import BlockIO
import Crypto
import Primitives

/// Opens a damaged image for reading, as far as it verifies. Nothing is ever written to it.
///
/// Of the header copies that verify, the newest with whose state the tree verifies is taken: its journal counts up to the
/// first record that doesn't. Then every sector that verifies is as it was at that moment (`Trust.tree`). Where there is
/// no such state, each sector is taken by itself (`Trust.sectors`): its newest leaf that anything authentic tells of, in
/// the journal or else in the table, and the content that verifies against it. Nothing older is put in its place.
enum Salvage {
  static func open(
    _ medium: Medium, _ pair: borrowing HeaderPair, _ keys: consuming VolumeKeys
  ) throws(VolumeError) -> SecureVolume {
    var keys = keys
    let (choices, flaws) = try candidates(pair, &keys)
    var best: SecureVolume?
    for choice in choices {
      let volume = try Recovery.read(
        medium: medium, keys: try keys.copy(store: medium.name), choice: choice, mode: .salvaging)
      if best == nil || volume.opening.trust == .tree { best = volume }
      if volume.opening.trust == .tree { break }
    }
    guard let best else {
      throw VolumeError(
        .notAuthentic(.geometry), store: medium.name,
        "the key opens a slot, but nothing tells the image's sizes: there is nothing to go by")
    }
    best.opening.findings = flaws + best.opening.findings
    if best.opening.trust == .sectors { try best.takeEachSectorByItself() }
    return best
  }

  /// What may be the header, the newest first; and what is wrong with the copies.
  private static func candidates(
    _ pair: borrowing HeaderPair, _ keys: inout VolumeKeys
  ) throws(VolumeError) -> ([HeaderPair.Choice], [VolumeFinding]) {
    var flaws: [VolumeFinding] = []
    do throws(VolumeError) { return ([try pair.choose(with: &keys.structure)], []) } catch {
      if error.code == .notAuthentic(.headerPair) {
        flaws.append(VolumeFinding(error, .headerPair, at: ByteOffset(Format.copyOffsets[0])))
      }
    }
    var verified: [Header] = []
    var presumed: [Header] = []
    for index in 0...1 {
      switch try pair.verified(index, &keys) {
      case .success(let header): verified.append(header)
      case .failure(let flaw):
        flaws.append(pair.finding(index, flaw.flaw))
        if let header = pair.presumed(index, uuid: keys.uuid), !presumed.contains(header) { presumed.append(header) }
      }
    }
    verified.sort { $0.sequence > $1.sequence }
    return ((verified + presumed).map { HeaderPair.Choice(header: $0, twin: .equal) }, flaws)
  }
}

extension HeaderPair {
  fileprivate func verified(
    _ index: Int, _ keys: inout VolumeKeys
  ) throws(VolumeError) -> Result<Header, FlawError> {
    do {
      return index == 0 ? try a.verified(with: &keys.structure) : try b.verified(with: &keys.structure)
    } catch { throw VolumeError(error, store: name) }
  }

  fileprivate func finding(_ index: Int, _ flaw: HeaderCopy.Flaw) -> VolumeFinding {
    let offset = ByteOffset(Format.copyOffsets[index])
    let name = "header copy \(index == 0 ? "A" : "B")"
    return flaw == .unreadable
      ? VolumeFinding(.unreadable, .unreadable, at: offset, "\(name) can't be read (\(failure?.detail ?? ""))")
      : VolumeFinding(.header, .damage, at: offset, "\(name) is damaged or was changed")
  }

  /// A header with the sizes of a copy that doesn't verify, and without anything else that would have to be believed.
  fileprivate func presumed(_ index: Int, uuid: StoreUUID) -> Header? {
    withCopy(index) { copy in
      guard copy.identityFlaw == nil, let geometry = copy.geometry else { return nil }
      return Header(
        uuid: uuid, geometry: geometry, isClean: true, sequence: 0, generation: Generation(0), epoch: InlineBytes16(),
        cursor: JournalCursor(position: 0, sequence: 0, chain: InlineBytes32()), root: InlineBytes32(),
        slots: (0..<Format.slotCount).map { copy.slot($0) })
    }
  }
}

extension SecureVolume {
  /// Gives every sector the newest leaf that there is authentic word of. Records are numbered through the life of a store,
  /// and the ring holds the last of them: a leaf in the table that none of them has is older than they are.
  fileprivate func takeEachSectorByItself() throws(VolumeError) {
    var newest: [SectorIndex: (sequence: UInt64, position: UInt64, leaf: Leaf)] = [:]
    var position: UInt64 = 0
    while position < geometry.ringSize {
      defer { position += UInt64(geometry.blockSize) }
      guard let found = try readableCommit(at: position) else { continue }
      for i in 0..<found.count {
        let start = JournalRecord.entryOffset(i)
        let sector = SectorIndex(record.load(UInt64.self, at: start))
        let leaf = Leaf(record, at: start + 8)
        guard sector.value < sectorCount, newest[sector].map({ $0.sequence < found.cursor.sequence }) ?? true else {
          continue
        }
        let payload = position + UInt64(found.payloadOffset + i * sectorSize)
        newest[sector] = (found.cursor.sequence, payload % geometry.ringSize, leaf)
      }
    }
    journal = Journal(geometry: geometry, at: JournalCursor(position: 0, sequence: 0, chain: InlineBytes32()))
    for (sector, version) in newest {
      leaves[sector] = version.leaf
      if try !verifies(sector, inPlace: version.leaf) {
        journal.adopt(sector, at: version.position, sequence: version.sequence)
      }
    }
    releaseRecord()
  }

  private func readableCommit(at position: UInt64) throws(VolumeError) -> JournalRecord? {
    var unlimited = UInt64.max
    do throws(VolumeError) {
      guard let found = try authenticRecord(at: position, mayHash: &unlimited), found.kind == .commit else {
        return nil
      }
      return found
    } catch {
      // What can't be read is no record.
      guard case .device = error.code else { throw error }
      return nil
    }
  }

  /// The fixed part and entries of a record with a number from `sequence` on, if there is an authentic one here, of whatever
  /// epoch; then they are in `record`.
  ///
  /// - Parameter mayHash: bytes of what may be records that are still worth reading; where more would be, it throws.
  func authenticRecord(
    at position: UInt64, from sequence: UInt64 = 0, mayHash: inout UInt64
  ) throws(VolumeError) -> JournalRecord? {
    try medium.read(journal, at: position, into: &record, 0..<Format.recordHeaderSize)
    guard let found = JournalRecord.parse(record, geometry), found.cursor.position == position,
      found.cursor.sequence >= sequence
    else { return nil }
    guard UInt64(found.payloadOffset) <= mayHash else {
      throw VolumeError(.notAuthentic(.journal), store: name, "the journal holds more records than fit")
    }
    mayHash -= UInt64(found.payloadOffset)
    if record.count < found.payloadOffset { record = ByteBuffer(count: found.payloadOffset) }
    try medium.read(journal, at: position, into: &record, 0..<found.payloadOffset)
    // Again, since the bytes were read again.
    guard let again = JournalRecord.parse(record, geometry), again.kind == found.kind, again.count == found.count else {
      return nil
    }
    do {
      let mac = try again.mac(record, digest: digest, with: &keys.structure)
      return ConstantTime.equals(mac, JournalRecord.storedMAC(record, at: again.macOffset)) ? again : nil
    } catch { throw VolumeError(error, store: name) }
  }

  private func verifies(_ sector: SectorIndex, inPlace leaf: Leaf) throws(VolumeError) -> Bool {
    do throws(VolumeError) {
      try medium.read(at: geometry.place(of: sector).value, into: &ciphertext, 0..<sectorSize)
    } catch { return false }
    do { return try keys.sectors.verify(ciphertext, 0..<sectorSize, sector: sector, leaf: leaf) } catch {
      throw VolumeError(error, store: name)
    }
  }
}

// Buffers are lent whole: a span of a class's property would outlive its access.
extension JournalRecord {
  fileprivate static func parse(_ buffer: borrowing ByteBuffer, _ geometry: Geometry) -> JournalRecord? {
    JournalRecord(parsing: buffer.span, geometry: geometry)
  }

  fileprivate static func storedMAC(_ buffer: borrowing ByteBuffer, at offset: Int) -> InlineBytes32 {
    InlineBytes32(buffer.span, at: offset)
  }
}
