import BlockIO
import Crypto
import Primitives

/// Opens a damaged image for reading, as far as it verifies. Nothing is ever written to it.
///
/// Of the header copies that verify, the newest with whose state the tree verifies is taken: its journal counts up to
/// the first record that doesn't. Then every sector that verifies is as it was at that moment (`Trust.tree`). Where
/// there is no such state, each sector is taken by itself (`Trust.sectors`): its newest leaf that anything authentic
/// tells of, in the journal or else in the table, and the content that verifies against it. Nothing older is put in its
/// place.
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
      case .valid(let header): verified.append(header)
      case .flawed(let flaw), .other(let flaw):
        flaws.append(pair.finding(index, flaw))
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
  ) throws(VolumeError) -> HeaderCopy.Verdict {
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
        cursor: JournalCursor(position: 0, sequence: 0, chain: InlineBytes32()),
        leafTable: copy.claimedTable, root: InlineBytes32(), slots: (0..<Format.slotCount).map { copy.slot($0) })
    }
  }
}

extension SecureVolume {
  /// Gives every sector the newest leaf that there is authentic word of. Records are numbered through the life of a
  /// store, and the ring holds the last of them: a leaf in the table that none of them has is older than they are.
  fileprivate func takeEachSectorByItself() throws(VolumeError) {
    var newest: [SectorIndex: (leaf: Leaf, version: Journal.Version)] = [:]
    var reader = JournalReader(medium, geometry, digest: digest)
    for position in stride(from: 0, to: geometry.ringSize, by: geometry.blockSize) {
      guard let found = try readableRecord(&reader, at: position) else { continue }
      var versions = Journal(geometry: geometry, at: found.cursor)
      for i in 0..<found.count {
        let (sector, leaf) = JournalRecord.entry(i, of: reader.head)
        guard sector.value < sectorCount, newest[sector].map({ $0.version.sequence < found.cursor.sequence }) ?? true
        else { continue }
        versions.note(sector, i, of: found)
        newest[sector] = versions.versions[sector].map { (leaf, $0) }
      }
    }
    journal.restart(at: JournalCursor(position: 0, sequence: 0, chain: InlineBytes32()))
    for (sector, found) in newest {
      leaves[sector] = found.leaf
      if try !verifiesInPlace(sector) {
        journal.adopt(sector, at: found.version.position, sequence: found.version.sequence)
      }
    }
  }

  /// An authentic record of whatever epoch; what can't be read is none.
  private func readableRecord(
    _ reader: inout JournalReader, at position: UInt64
  ) throws(VolumeError) -> JournalRecord? {
    do throws(VolumeError) {
      return try reader.record(at: position, from: 0, epoch: nil, with: &keys.structure)
    } catch {
      guard case .device = error.code else { throw error }
      return nil
    }
  }

  private func verifiesInPlace(_ sector: SectorIndex) throws(VolumeError) -> Bool {
    do throws(VolumeError) {
      try medium.read(at: geometry.place(of: sector).value, into: &ciphertext, 0..<sectorSize)
    } catch { return false }
    return try failing(sector, count: 1) == 0
  }
}
