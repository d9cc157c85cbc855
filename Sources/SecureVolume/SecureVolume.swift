import BlockIO
import Crypto
import Primitives

/// An opened image: logical sectors, each encrypted, authenticated and fresh, written by atomic and durable commits.
///
/// What holds while it is open (FORMAT §7):
/// - `leaves` is the truth about every sector. A sector is served only after it verified against its leaf.
/// - A commit is published (leaves, journal, generation) only after its record was synced.
/// - The ring is freed only after both headers say so.
/// - After any failed write or sync nothing is written any more.
///
/// Single-threaded: its owner sees to it that calls don't overlap. Keys are wiped when it is released.
public final class SecureVolume: SectorVolume {
  public let uuid: StoreUUID
  public let geometry: Geometry
  /// How the image was found, and what was recovered.
  public internal(set) var opening: OpeningReport
  /// The slot whose key opened it, as its header copy has it; nil where it was opened with the store key.
  public internal(set) var openedSlot: SlotDescription?
  /// Commits so far.
  public internal(set) var generation: Generation

  var medium: Medium
  var keys: VolumeKeys
  /// What both header copies say, or are about to say.
  var header: Header
  let digest: InlineBytes32
  var leaves: LeafTable
  var journal: Journal
  var checkpoint: Checkpoint?
  /// Where records are put together. Grows for a large commit and shrinks again after it.
  var record: ByteBuffer
  /// Ciphertext on its way in.
  var ciphertext: ByteBuffer
  var isClosed = false
  /// `nil` without an anchor, and while opened for reading.
  var anchoring: Anchoring?
  /// So many commits after the last, the anchor is advanced with the next checkpoint; after twice as many none is taken
  /// before it is. More make a crash's window longer, fewer cost a sync of the anchor each time.
  public var commitsPerAnchor = SecureVolume.standardCommitsPerAnchor {
    didSet { commitsPerAnchor = min(max(1, commitsPerAnchor), Self.mostCommitsPerAnchor) }
  }

  /// Bytes of ring in use from which on `maintain` begins a checkpoint.
  private let checkpointThreshold: UInt64
  private static let retainedRecordSize = 1 << 20
  private static let readAhead = 65536

  init(
    medium: consuming Medium, keys: consuming VolumeKeys, header: Header, digest: InlineBytes32,
    leaves: consuming LeafTable, journal: Journal, generation: Generation, opening: OpeningReport
  ) {
    uuid = header.uuid
    geometry = header.geometry
    self.medium = medium
    self.keys = keys
    self.header = header
    self.digest = digest
    self.leaves = leaves
    self.journal = journal
    self.generation = generation
    self.opening = opening
    record = ByteBuffer(count: Int(min(geometry.ringSize, 65536)))
    ciphertext = ByteBuffer(count: Self.readAhead)
    checkpointThreshold = min((geometry.ringSize - geometry.maximumImagesSize) / 2, 8 << 20)
  }

  public var name: String { medium.name }
  public var sectorSize: Int { geometry.sectorSize }
  public var sectorCount: UInt64 { geometry.sectorCount }
  public var isWritable: Bool { medium.device.isWritable }
  /// Set once a write or sync has failed.
  public var failure: VolumeError? { medium.failure }

  // MARK: Reading

  /// Reads as many whole sectors as `plaintext` holds, from `sector` on. Throws `.notAuthentic` naming the sector
  /// that doesn't verify; what was read before it is already in `plaintext` and must not be used.
  public func read(_ sector: SectorIndex, into plaintext: consuming MutableSpan<UInt8>) throws(VolumeError) {
    let count = plaintext.count / sectorSize
    precondition(plaintext.count % sectorSize == 0 && sector.value + UInt64(count) <= sectorCount)
    var done = 0
    while done < count {
      let first = SectorIndex(sector.value + UInt64(done))
      let run = try fetch(first, upTo: count - done)
      for i in 0..<run {
        let place = (done + i) * sectorSize
        try open(
          SectorIndex(first.value + UInt64(i)), at: i * sectorSize,
          into: plaintext._mutatingExtracting(place..<place + sectorSize))
      }
      done += run
    }
  }

  /// Reads the ciphertext of sectors that lie side by side into `ciphertext`; returns how many.
  func fetch(_ first: SectorIndex, upTo most: Int) throws(VolumeError) -> Int {
    if let version = journal.versions[first] {
      try medium.read(journal, at: version.position, into: &ciphertext, 0..<sectorSize)
      return 1
    }
    var run = 1
    let most = min(most, Self.readAhead / sectorSize)
    while run < most, journal.isEmpty || journal.versions[SectorIndex(first.value + UInt64(run))] == nil { run += 1 }
    try medium.read(at: geometry.place(of: first).value, into: &ciphertext, 0..<run * sectorSize)
    return run
  }

  private func open(
    _ sector: SectorIndex, at offset: Int, into plaintext: consuming MutableSpan<UInt8>
  ) throws(VolumeError) {
    let leaf = leaves[sector]
    let place = offset..<offset + sectorSize
    do {
      if try keys.sectors.verify(ciphertext, place, sector: sector, leaf: leaf) {
        try keys.sectors.open(ciphertext, place, sector: sector, leaf: leaf, into: plaintext)
        return
      }
    } catch { throw VolumeError(error, store: name) }
    throw VolumeError(
      .notAuthentic(.sector), store: name,
      "\(sector) at \(geometry.place(of: sector)) is damaged or was changed; restore the image from a backup")
  }

  // MARK: Committing

  /// Writes all of `changes` as one record: one append, one sync. Durable on return; the generation is one higher.
  public func commit(_ changes: borrowing SectorChanges) throws(VolumeError) {
    precondition(changes.sectorSize == sectorSize && !isClosed)
    guard !changes.isEmpty else { return }
    try medium.mayWrite()
    if anchoring != nil { try keepToAnchorBound() }
    let size = geometry.commitSize(sectors: changes.count)
    try makeRoom(for: size)
    if record.count < Int(size) { record = ByteBuffer(count: Int(size)) }
    let header = JournalRecord(
      kind: .commit, count: changes.count, generation: generation.next, epoch: self.header.epoch, cursor: journal.head)
    let mac: InlineBytes32
    do { mac = try seal(changes, as: header, size: Int(size)) } catch { throw VolumeError(error, store: name) }
    if Mutant.acknowledgeBeforeSync.isOn { try medium.sync() }
    try medium.append(record, size: Int(size), to: journal)
    if !Mutant.skipTheSync.isOn, !Mutant.acknowledgeBeforeSync.isOn { try medium.sync() }
    publish(header, size: size, mac: mac)
    releaseRecord()
  }

  /// Gives the memory of a large record back.
  func releaseRecord() {
    if record.count > Self.retainedRecordSize { record = ByteBuffer(count: 65536) }
  }

  /// Puts the record together in `record` and returns its MAC.
  private func seal(
    _ changes: borrowing SectorChanges, as header: JournalRecord, size: Int
  ) throws(CryptoError) -> InlineBytes32 {
    header.encode(to: &record, geometry: geometry)
    let order = changes.placesInSectorOrder
    for (i, place) in order.enumerated() {
      let sector = changes.sectors[place]
      let leaf = try keys.sectors.seal(
        changes.plaintext(place), sector: sector, into: &record, at: header.payloadOffset + i * sectorSize)
      let start = JournalRecord.entryOffset(i)
      record.store(sector.value, at: start)
      leaf.encode(to: &record, at: start + 8)
    }
    return try finish(header, size: size)
  }

  /// MAC and padding.
  func finish(_ header: JournalRecord, size: Int) throws(CryptoError) -> InlineBytes32 {
    let mac = try header.mac(record, digest: digest, with: &keys.structure)
    record.store(mac, at: header.macOffset)
    record.wipe(header.payloadOffset + header.count * header.unit(geometry)..<size)
    return mac
  }

  /// Makes a durable commit the truth.
  private func publish(_ header: JournalRecord, size: UInt64, mac: InlineBytes32) {
    for i in 0..<header.count {
      let start = JournalRecord.entryOffset(i)
      let sector = SectorIndex(record.load(UInt64.self, at: start))
      leaves[sector] = Leaf(record, at: start + 8)
      journal.note(sector, record: header.cursor, offset: UInt64(header.payloadOffset + i * sectorSize))
    }
    journal.append(size: size, mac: mac)
    generation = header.generation
  }

  // MARK: Room in the ring

  /// Runs checkpoints until a record of `size` bytes fits.
  private func makeRoom(for size: UInt64) throws(VolumeError) {
    while !journal.hasRoom(for: size) {
      if checkpoint == nil { try startCheckpoint() }
      try finishCheckpoint()
    }
  }

  /// Whether `maintain` has anything to do.
  public var wantsMaintenance: Bool {
    !isClosed && (checkpoint != nil || journal.used > checkpointThreshold || wantsAnchor)
  }

  /// Does one bounded piece of work towards free ring space; call it when nobody waits. True: there is more to do.
  public func maintain() throws(VolumeError) -> Bool {
    guard !isClosed, isWritable else { return false }
    if checkpoint != nil {
      try stepCheckpoint()
    } else if wantsAnchor, journal.isEmpty {
      advanceAnchorIfDue()
    } else if journal.used > checkpointThreshold || wantsAnchor {
      try startCheckpoint()
    }
    return checkpoint != nil
  }

  // MARK: Closing

  /// Brings everything in place and marks the image as closed cleanly; durable on return. Keys go when the last
  /// reference does. An image opened for reading is left as it was.
  ///
  /// - Throws: `.anchor` where all went well but that the anchor could not be brought up to date: the image is closed.
  public func close() throws(VolumeError) {
    guard !isClosed else { return }
    guard isWritable else {
      isClosed = true
      return
    }
    do { try settle(.closing) { $0.isClean = true } } catch {
      if case .anchor = error.code { isClosed = true }
      throw error
    }
    isClosed = true
  }
}
