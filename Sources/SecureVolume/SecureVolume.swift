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
  /// Ciphertext on its way in, or in place.
  var ciphertext: ByteBuffer
  var isClosed = false
  /// `nil` without an anchor, and while opened for reading.
  var anchoring: Anchoring? {
    didSet { anchored = anchoring?.record.lineage ?? anchored }
  }
  /// The lineage value that an anchor was last handed.
  private(set) var anchored: InlineBytes32?
  /// So many commits after the last, the anchor is advanced with the next checkpoint; after twice as many none is taken
  /// before it is. More make a crash's window longer, fewer cost a sync of the anchor each time.
  public var commitsPerAnchor = SecureVolume.standardCommitsPerAnchor {
    didSet { commitsPerAnchor = min(max(1, commitsPerAnchor), Self.mostCommitsPerAnchor) }
  }

  /// Bytes of ring in use from which on `maintain` begins a checkpoint.
  private let checkpointThreshold: UInt64

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
    record = ByteBuffer(count: geometry.recordHeadSize(1) + geometry.batchSize)
    ciphertext = ByteBuffer(count: geometry.batchSize)
    checkpointThreshold = min(geometry.ringSize / 2, 8 << 20)
  }

  public var name: String { medium.name }
  public var sectorSize: Int { geometry.blockSize }
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
      let failing = try failing(first, count: run)
      guard failing == 0 else {
        throw damage(at: SectorIndex(first.value + UInt64(failing.trailingZeroBitCount)))
      }
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
      try medium.read(ring: geometry, at: version.position, into: &ciphertext, 0..<sectorSize)
      return 1
    }
    var run = 1
    let most = min(most, geometry.batch)
    while run < most, journal.isEmpty || journal.versions[SectorIndex(first.value + UInt64(run))] == nil { run += 1 }
    try medium.read(at: geometry.place(of: first).value, into: &ciphertext, 0..<run * sectorSize)
    return run
  }

  /// Which of the sectors in `ciphertext`, `first` and those after it, don't verify: a bit each.
  func failing(_ first: SectorIndex, count: Int) throws(VolumeError) -> UInt64 {
    do {
      return try keys.sectors.failing(ciphertext, from: 0, size: sectorSize, count: count) {
        let sector = SectorIndex(first.value + UInt64($0))
        return (sector, leaves[sector])
      }
    } catch { throw VolumeError(error, store: name) }
  }

  private func open(
    _ sector: SectorIndex, at offset: Int, into plaintext: consuming MutableSpan<UInt8>
  ) throws(VolumeError) {
    do {
      try keys.sectors.open(
        ciphertext, offset..<offset + sectorSize, sector: sector, leaf: leaves[sector], into: plaintext)
    } catch { throw VolumeError(error, store: name) }
  }

  private func damage(at sector: SectorIndex) -> VolumeError {
    VolumeError(
      .notAuthentic(.sector), store: name,
      "\(sector) at \(place(of: sector)) is damaged or was changed; restore the image from a backup")
  }

  /// Where the newest version of a sector lies in the image now.
  public func place(of sector: SectorIndex) -> ByteOffset {
    journal.versions[sector].map { ByteOffset(geometry.ringOffset + $0.position) } ?? geometry.place(of: sector)
  }

  // MARK: Upkeep

  /// Whether `maintain` has anything to do.
  public var wantsMaintenance: Bool {
    !isClosed && isWritable && (checkpoint != nil || journal.used > checkpointThreshold || wantsAnchor)
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
      try stepCheckpoint()
    }
    return checkpoint != nil
  }

  // MARK: Closing

  /// Brings everything in place and marks the image as closed cleanly; durable on return. Keys go when the last
  /// reference does. An image opened for reading is left as it was.
  ///
  /// - Throws: `.anchor`, with `isDurable`, where the image is closed and only the anchor couldn't be told.
  public func close() throws(VolumeError) {
    guard !isClosed else { return }
    guard isWritable else {
      isClosed = true
      return
    }
    do { try settle("was closed cleanly", .closing) { $0.isClean = true } } catch {
      isClosed = error.isDurable
      throw error
    }
    isClosed = true
  }
}
