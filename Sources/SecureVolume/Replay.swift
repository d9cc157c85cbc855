import BlockIO
import Crypto
import Primitives

/// What a replay makes of what it can't explain.
enum ReplayMode {
  /// An error.
  case strict
  /// An error too, once the place was read again: another process may be writing.
  case beside
  /// Noted, and left aside.
  case salvaging
}

/// Replays the journal in memory (FORMAT §7, "What a reader does"). Nothing is written.
///
/// The last record is kept apart from those before it: they were synced before it was begun, and it is in doubt.
struct Replay: ~Copyable {
  private var reader: JournalReader
  private var keys: VolumeKeys
  private let header: Header
  private let geometry: Geometry
  private let digest: InlineBytes32
  private var journal: Journal
  private var leaves: LeafTable
  private var last: JournalRecord?
  private var lastHead = ByteBuffer(count: 4096)
  private var lastMAC = InlineBytes32()
  private(set) var count = 0
  private let mode: ReplayMode
  /// `.salvaging`: what is wrong, in place of an error.
  private(set) var flaws: [VolumeFinding] = []
  /// Whether the tree is the one that the header names.
  private(set) var rootVerifies = true

  init(
    medium: consuming Medium, keys: consuming VolumeKeys, header: Header, mode: ReplayMode = .strict
  ) throws(VolumeError) {
    do { digest = try Header.geometryDigest(uuid: header.uuid, geometry: header.geometry) } catch {
      throw VolumeError(error, store: medium.name)
    }
    self.mode = mode
    self.keys = keys
    self.header = header
    geometry = header.geometry
    reader = JournalReader(medium, header.geometry, digest: digest)
    journal = Journal(geometry: header.geometry, at: header.cursor)
    leaves = LeafTable(geometry: header.geometry, current: header.leafTable)
  }

  private var store: String { reader.medium.name }

  mutating func run() throws(VolumeError) {
    try loadTree()
    guard !header.isClean else { return }
    do throws(VolumeError) { try readRecords() } catch {
      try note(error, .journal, ByteOffset(geometry.ringOffset + expected.position))
    }
  }

  // MARK: Tree

  private mutating func loadTree() throws(VolumeError) {
    var unreadable: (first: VolumeError, offset: UInt64, count: Int)?
    let salvaging = mode == .salvaging
    try leaves.load(reader.medium) { (error, offset) throws(VolumeError) in
      guard salvaging else { throw error }
      unreadable = (unreadable?.first ?? error, unreadable?.offset ?? offset, (unreadable?.count ?? 0) + 1)
    }
    if let (first, offset, count) = unreadable {
      let more = count == 1 ? "" : ", and \(count - 1) more blocks of the leaf table behind it"
      flaws.append(VolumeFinding(first, .unreadable, at: ByteOffset(offset), more: more))
    }
    do throws(VolumeError) { try verifyTree() } catch {
      rootVerifies = false
      try note(error, .tree, ByteOffset(geometry.leafTableOffset(header.leafTable)))
    }
  }

  private mutating func verifyTree() throws(VolumeError) {
    let computed: InlineBytes32
    do {
      computed = try leaves.seal(generation: header.generation, digest: digest, with: &keys.structure)
    } catch { throw VolumeError(error, store: store) }
    guard ConstantTime.equals(computed, header.root) else {
      throw VolumeError(
        .notAuthentic(.tree), store: store,
        "the leaf table at \(ByteOffset(geometry.leafTableOffset(header.leafTable))) is damaged or from another time; "
          + "restore the image from a backup")
    }
    try leaves.requireWellFormed(store: store)
  }

  /// Goes on in spite of an error where something is to be salvaged.
  private mutating func note(
    _ error: VolumeError, _ code: VolumeFinding.Code, _ offset: ByteOffset
  ) throws(VolumeError) {
    guard mode == .salvaging else { throw error }
    flaws.append(VolumeFinding(error, code, at: offset))
  }

  // MARK: Records

  /// The place, number and chain that come next.
  private var expected: JournalCursor {
    guard let last else { return journal.head }
    return JournalCursor(
      position: journal.position(journal.head.position, plus: geometry.recordSize(last.count)),
      sequence: last.cursor.sequence + 1, chain: lastMAC)
  }

  private var used: UInt64 { journal.used + (last.map { geometry.recordSize($0.count) } ?? 0) }
  private var generation: Generation { Generation(header.generation.value + UInt64(count)) }

  /// Takes records as long as they count, and looks at what is behind them.
  private mutating func readRecords() throws(VolumeError) {
    while true {
      while let record = try nextRecord() { take(record) }
      guard !Mutant.trustTheEnd.isOn, let later = try laterRecord() else { return }
      // It was begun after the one before it was synced. Beside a writer, that one may have come since the
      // look at its place.
      reader.forget()
      guard mode == .beside, let record = try nextRecord() else { throw damageBefore(later) }
      take(record)
    }
  }

  /// The record that comes next, if it counts; its head is the reader's then. An authentic record of the expected
  /// number whose payload doesn't verify was torn, or is being written: the journal ends there. One that is wrong in
  /// any other way was made by a broken or hostile program that has the key.
  private mutating func nextRecord() throws(VolumeError) -> JournalRecord? {
    let expected = expected
    guard used < geometry.ringSize,
      let record = try reader.record(
        at: expected.position, from: expected.sequence, epoch: header.epoch, with: &keys.structure)
    else { return nil }
    let size = geometry.recordSize(record.count)
    guard follows(record, expected), record.isWellFormed(reader.head, geometry), record.generation == generation.next,
      used + size <= geometry.ringSize
    else {
      throw damage("journal record \(record.cursor.sequence) is authentic and does not follow from the one before")
    }
    return try reader.payloadVerifies(record, with: &keys.sectors) ? record : nil
  }

  /// Place, number and chain are those that come next.
  private func follows(_ record: JournalRecord, _ expected: JournalCursor) -> Bool {
    if Mutant.ignoreChainMAC.isOn || Mutant.ignoreRecordMAC.isOn {
      return record.cursor.position == expected.position && record.cursor.sequence == expected.sequence
    }
    return record.cursor == expected
  }

  /// The first record at the end or behind it that is later than the one expected. Commits are serial on the medium, so
  /// it proves that the end is damage.
  private mutating func laterRecord() throws(VolumeError) -> JournalRecord? {
    let end = expected
    var behind: UInt64 = 0
    while used + behind < geometry.ringSize {
      let position = journal.position(end.position, plus: behind)
      behind += UInt64(geometry.blockSize)
      if let record = try reader.record(
        at: position, from: end.sequence + 1, epoch: header.epoch, with: &keys.structure)
      {
        return record
      }
    }
    return nil
  }

  private func damageBefore(_ later: JournalRecord) -> VolumeError {
    damage(
      "journal record \(expected.sequence) at \(ByteOffset(geometry.ringOffset + expected.position)) is damaged, "
        + "though record \(later.cursor.sequence) behind it is whole")
  }

  private func damage(_ what: String) -> VolumeError {
    VolumeError(.notAuthentic(.journal), store: store, "\(what); restore the image from a backup")
  }

  /// The record counts, and is the last for now: the one before it is sure.
  private mutating func take(_ record: JournalRecord) {
    let mac = reader.mac(of: record)
    applyLast()
    reader.exchangeHead(with: &lastHead)
    (last, lastMAC) = (record, mac)
    count += 1
  }

  private mutating func applyLast() {
    guard let record = last else { return }
    for i in 0..<record.count {
      let (sector, leaf) = JournalRecord.entry(i, of: lastHead)
      leaves[sector] = leaf
      journal.note(sector, i, of: record)
    }
    journal.append(record, mac: lastMAC)
    last = nil
  }

  // MARK: The end

  /// The volume as it is after all records.
  consuming func volume(_ opening: OpeningReport) -> SecureVolume {
    var replay = self
    replay.applyLast()
    var last: LastRecord?
    return replay.volumeBeforeLast(opening, last: &last)
  }

  /// The volume as it is before the last record, and that.
  consuming func volumeBeforeLast(_ opening: OpeningReport, last: inout LastRecord?) -> SecureVolume {
    let generation = Generation(header.generation.value + UInt64(count - (self.last == nil ? 0 : 1)))
    if let record = self.last { last = LastRecord(record: record, head: lastHead, mac: lastMAC) }
    return SecureVolume(
      medium: reader.medium, keys: keys, header: header, digest: digest, leaves: leaves, journal: journal,
      generation: generation, opening: opening)
  }

  /// How the image was found.
  func report(_ choice: HeaderPair.Choice) -> OpeningReport {
    var report = OpeningReport(
      wasClosedCleanly: header.isClean, outdatedHeaderCopy: choice.outdated, recordsReplayed: count,
      generation: generation, findings: choice.findings + flaws)
    if !rootVerifies { report.trust = .sectors }
    return report
  }
}

/// The last record that counts: authentic and whole as it was read, and in doubt.
struct LastRecord: ~Copyable {
  let record: JournalRecord
  /// The fixed part, the entries and the MAC.
  let head: ByteBuffer
  let mac: InlineBytes32
}
