import BlockIO
import Crypto
import Primitives

/// From a verified header to an open volume: what the journal holds is replayed in memory, the tree is verified, and,
/// for writing, what was recovered is made durable before it is served (FORMAT §7).
enum Recovery {
  static func open(
    medium: consuming Medium, keys: consuming VolumeKeys, choice: HeaderPair.Choice, anchor: AnchorUse? = nil
  ) throws(VolumeError) -> SecureVolume {
    let header = choice.header
    let digest: InlineBytes32
    do { digest = try Header.geometryDigest(uuid: header.uuid, geometry: header.geometry) } catch {
      throw VolumeError(error, store: medium.name)
    }
    var replay = Replay(medium: medium, keys: keys, header: header, digest: digest)
    try replay.run()
    let opening = OpeningReport(
      wasClosedCleanly: header.isClean, outdatedHeaderCopy: choice.outdated, recordsReplayed: replay.count,
      generation: replay.generation, findings: choice.findings)
    let endsInImages = replay.endsInImages
    let volume = replay.finish(opening: opening)
    // Before the first write.
    if let anchor { try anchor.isAccepting ? volume.mayAccept(anchor) : volume.consult(anchor.anchor) }
    guard volume.isWritable else { return volume }
    let anchoring = volume.anchoring
    // What is recovered goes into both headers first: until then the anchor is not told of it.
    volume.anchoring = nil
    try makeDurable(volume, choice, endsInImages: endsInImages)
    volume.anchoring = anchoring
    if let anchor, anchor.isAccepting { try volume.accept(anchor.anchor) } else { try volume.advanceAnchor(.opening) }
    return volume
  }

  /// Opens for reading, whatever the device is open for: nothing is written.
  static func read(
    medium: Medium, keys: consuming VolumeKeys, choice: HeaderPair.Choice, mode: ReplayMode
  ) throws(VolumeError) -> SecureVolume {
    let header = choice.header
    let digest: InlineBytes32
    do { digest = try Header.geometryDigest(uuid: header.uuid, geometry: header.geometry) } catch {
      throw VolumeError(error, store: medium.name)
    }
    var replay = Replay(medium: medium, keys: keys, header: header, digest: digest, mode: mode)
    try replay.run()
    var opening = OpeningReport(
      wasClosedCleanly: header.isClean, outdatedHeaderCopy: choice.outdated, recordsReplayed: replay.count,
      generation: replay.generation, findings: choice.findings + replay.flaws)
    if !replay.rootVerifies { opening.trust = .sectors }
    return replay.finish(opening: opening)
  }

  /// Both header copies as found, for sure; then a checkpoint, and with it a new epoch.
  private static func makeDurable(
    _ volume: SecureVolume, _ choice: HeaderPair.Choice, endsInImages: Bool
  ) throws(VolumeError) {
    let epoch: InlineBytes16
    do { epoch = try Random.bytes16() } catch { throw VolumeError(error, store: volume.name) }
    for copy in choice.copiesToRewrite { try volume.writeHeader(choice.header, copy: copy) }
    if endsInImages {
      // A crash while recovering must not fill the ring with one record of images after the other.
      let blocks = volume.leaves.dirtyBlocks
      let root: InlineBytes32
      let images = volume.leafImages(blocks)
      do {
        root = try volume.leaves.seal(
          generation: volume.generation, digest: volume.digest, with: &volume.keys.structure)
      } catch { throw VolumeError(error, store: volume.name) }
      volume.resumeCheckpoint(blocks: blocks, images: images, root: root)
    }
    try volume.settle {
      $0.isClean = false
      if !Mutant.reuseEpoch.isOn { $0.epoch = epoch }
    }
  }
}

/// What a replay makes of what it can't explain.
enum ReplayMode {
  /// An error.
  case strict
  /// Another process may be appending while the journal is read: it ends where it doesn't verify any more.
  case following
  /// Noted, and left aside.
  case salvaging
}

/// Replays the journal in memory. Nothing is written.
struct Replay: ~Copyable {
  private let medium: Medium
  private var keys: VolumeKeys
  private let header: Header
  private let geometry: Geometry
  private let digest: InlineBytes32
  private var journal: Journal
  private var leaves: LeafTable
  private(set) var generation: Generation
  private(set) var count = 0
  /// Whether the last record that counts is one of images.
  private(set) var endsInImages = false
  /// The newest root, and what it is over: the table with all images in it, without the commits after them.
  private var root: InlineBytes32
  private var rootGeneration: Generation
  private var imaged: Set<Int> = []
  private var afterImages: [(SectorIndex, Leaf)] = []
  private var buffer = ByteBuffer(count: 65536)
  private var unit: ByteBuffer
  /// Bytes of what may be records that are still worth reading and hashing.
  private var mayHash: UInt64
  private let mode: ReplayMode
  /// `.salvaging`: what is wrong, in place of an error.
  private(set) var flaws: [VolumeFinding] = []
  /// Whether the tree is the one that the header, or the last record of images, names.
  private(set) var rootVerifies = true

  init(
    medium: consuming Medium, keys: consuming VolumeKeys, header: Header, digest: InlineBytes32,
    mode: ReplayMode = .strict
  ) {
    self.mode = mode
    self.medium = medium
    self.keys = keys
    self.header = header
    self.digest = digest
    geometry = header.geometry
    journal = Journal(geometry: header.geometry, at: header.cursor)
    leaves = LeafTable(geometry: header.geometry)
    generation = header.generation
    root = header.root
    rootGeneration = header.generation
    unit = ByteBuffer(count: header.geometry.blockSize)
    mayHash = header.geometry.ringSize
  }

  /// Steps 1 to 4 of "What a reader does".
  mutating func run() throws(VolumeError) {
    try loadLeaves()
    if !header.isClean {
      do throws(VolumeError) {
        while let record = try nextRecord() { try apply(record) }
        // What another process is appending now is no proof of damage.
        if mode != .following { try searchBehindEnd() }
      } catch { try note(error, .journal, ByteOffset(geometry.ringOffset + journal.head.position)) }
    }
    do throws(VolumeError) { try verifyTree() } catch {
      rootVerifies = false
      try note(error, .tree, ByteOffset(geometry.leafOffset))
    }
    for block in imaged { leaves.markDirty(block) }
    for (sector, leaf) in afterImages { leaves[sector] = leaf }
  }

  private mutating func verifyTree() throws(VolumeError) {
    let computed: InlineBytes32
    do { computed = try leaves.seal(generation: rootGeneration, digest: digest, with: &keys.structure) } catch {
      throw VolumeError(error, store: medium.name)
    }
    guard ConstantTime.equals(computed, root) else {
      throw VolumeError(
        .notAuthentic(.tree), store: medium.name,
        "the leaf table at \(ByteOffset(geometry.leafOffset)) is damaged or from another time; restore the image from a backup"
      )
    }
    try leaves.requireWellFormed(store: medium.name)
  }

  /// Goes on in spite of an error where something is to be salvaged.
  private mutating func note(
    _ error: VolumeError, _ code: VolumeFinding.Code, _ offset: ByteOffset
  ) throws(VolumeError) {
    guard mode == .salvaging else { throw error }
    flaws.append(VolumeFinding(error, code, at: offset))
  }

  consuming func finish(opening: OpeningReport) -> SecureVolume {
    SecureVolume(
      medium: medium, keys: keys, header: header, digest: digest, leaves: leaves, journal: journal,
      generation: generation, opening: opening)
  }

  private mutating func loadLeaves() throws(VolumeError) {
    for block in 0..<geometry.leafBlocks {
      let offset = geometry.leafOffset + UInt64(block * geometry.blockSize)
      do throws(VolumeError) { try medium.read(at: offset, into: &unit, 0..<geometry.blockSize) } catch {
        try note(error, .unreadable, ByteOffset(offset))
        continue
      }
      leaves.replace(block, with: unit)
    }
  }

  // MARK: Records

  /// The record at the head, if it counts; its fixed part, entries and MAC are then in `buffer`. An authentic record of
  /// the expected number whose payload doesn't verify was torn: the journal ends there. One that is wrong in any other
  /// way was made by a broken or hostile program that has the key.
  private mutating func nextRecord() throws(VolumeError) -> JournalRecord? {
    guard journal.used < geometry.ringSize,
      let record = try readRecord(at: journal.head.position, from: journal.head.sequence), try isAuthentic(record)
    else { return nil }
    guard follows(record), record.isWellFormed(buffer, geometry),
      record.generation == (record.kind == .commit ? generation.next : generation),
      fits(record), entriesAreInOrder(record)
    else {
      throw damage("journal record \(record.cursor.sequence) is authentic and does not follow from the one before")
    }
    return try payloadVerifies(record) ? record : nil
  }

  /// Place, number and chain are those that come next.
  private func follows(_ record: JournalRecord) -> Bool {
    if Mutant.ignoreChainMAC.isOn || Mutant.ignoreRecordMAC.isOn {
      return record.cursor.position == journal.head.position && record.cursor.sequence == journal.head.sequence
    }
    return record.cursor == journal.head
  }

  /// Within the ring, and a commit leaves room for the checkpoint after it, which recovery needs.
  private func fits(_ record: JournalRecord) -> Bool {
    let reserved = record.kind == .commit ? geometry.maximumImagesSize : 0
    return journal.used + record.size(geometry) + reserved <= geometry.ringSize
  }

  private func damage(_ what: String) -> VolumeError {
    VolumeError(.notAuthentic(.journal), store: medium.name, "\(what); restore the image from a backup")
  }

  /// Reads fixed part, entries and MAC of what may be a record of this epoch, in its place and with a number from
  /// `sequence` on. The count is within limits before memory is taken.
  private mutating func readRecord(at position: UInt64, from sequence: UInt64) throws(VolumeError) -> JournalRecord? {
    try medium.read(journal, at: position, into: &buffer, 0..<Format.recordHeaderSize)
    guard let record = JournalRecord(parsing: buffer.span, geometry: geometry), record.epoch == header.epoch,
      record.cursor.position == position, record.cursor.sequence >= sequence
    else { return nil }
    // All of that can be forged without a key. More of it than a ring holds is no accident, and not worth the time.
    guard UInt64(record.payloadOffset) <= mayHash else { throw damage("the journal holds more records than fit") }
    mayHash -= UInt64(record.payloadOffset)
    if buffer.count < record.payloadOffset { buffer = ByteBuffer(count: record.payloadOffset) }
    try medium.read(journal, at: position, into: &buffer, 0..<record.payloadOffset)
    // Again, since the bytes were read again.
    return JournalRecord(parsing: buffer.span, geometry: geometry)?.sameSize(as: record)
  }

  private mutating func isAuthentic(_ record: JournalRecord) throws(VolumeError) -> Bool {
    do {
      let mac = try record.mac(buffer, digest: digest, with: &keys.structure)
      return Mutant.ignoreRecordMAC.isOn || ConstantTime.equals(mac, InlineBytes32(buffer.span, at: record.macOffset))
    } catch { throw VolumeError(error, store: medium.name) }
  }

  /// Sectors within the volume, offsets at blocks of leaf table or data; each once.
  private func entriesAreInOrder(_ record: JournalRecord) -> Bool {
    var last: UInt64?
    for i in 0..<record.count {
      let start = JournalRecord.entryOffset(i)
      let value = buffer.load(UInt64.self, at: start)
      if let last, value <= last { return false }
      last = value
      switch record.kind {
      case .commit:
        guard value < geometry.sectorCount, buffer.load(UInt32.self, at: start + 32) == Format.keyEpoch,
          buffer.load(UInt32.self, at: start + 36) == 0
        else { return false }
      case .images:
        let inLeaves = value >= geometry.leafOffset && value < geometry.dataOffset
        let inData = value >= geometry.dataOffset && value < geometry.imageSize.value
        guard value % UInt64(geometry.blockSize) == 0, inLeaves || inData && geometry.sectorSize < geometry.blockSize
        else { return false }
      }
    }
    return true
  }

  private mutating func payloadVerifies(_ record: JournalRecord) throws(VolumeError) -> Bool {
    for i in 0..<record.count {
      try readPayload(i, of: record)
      let start = JournalRecord.entryOffset(i)
      let value = buffer.load(UInt64.self, at: start)
      do {
        switch record.kind {
        case .commit:
          let leaf = Leaf(buffer, at: start + 8)
          guard
            try keys.sectors.verify(unit, 0..<geometry.sectorSize, sector: SectorIndex(value), leaf: leaf)
          else { return false }
        case .images:
          let mac = try JournalRecord.imageMAC(
            unit, 0..<geometry.blockSize, offset: value, digest: digest, with: &keys.structure)
          guard ConstantTime.equals(mac, InlineBytes32(buffer.span, at: start + 8)) else { return false }
        }
      } catch { throw VolumeError(error, store: medium.name) }
    }
    return true
  }

  private mutating func readPayload(_ index: Int, of record: JournalRecord) throws(VolumeError) {
    let size = record.unit(geometry)
    let position = record.cursor.position + UInt64(record.payloadOffset + index * size)
    try medium.read(journal, at: position % geometry.ringSize, into: &unit, 0..<size)
  }

  private mutating func apply(_ record: JournalRecord) throws(VolumeError) {
    switch record.kind {
    case .commit:
      for i in 0..<record.count {
        let start = JournalRecord.entryOffset(i)
        let sector = SectorIndex(buffer.load(UInt64.self, at: start))
        afterImages.append((sector, Leaf(buffer, at: start + 8)))
        note(sector, record, offset: record.payloadOffset + i * geometry.sectorSize)
      }
      endsInImages = false
    case .images:
      afterImages.removeAll()
      for i in 0..<record.count { try applyImage(i, of: record) }
      root = record.root
      rootGeneration = record.generation
      endsInImages = true
    }
    journal.append(size: record.size(geometry), mac: InlineBytes32(buffer.span, at: record.macOffset))
    generation = record.generation
    count += 1
  }

  private mutating func note(_ sector: SectorIndex, _ record: JournalRecord, offset: Int) {
    journal.note(sector, record: record.cursor, offset: UInt64(offset))
  }

  /// A leaf block replaces what the image has, which may be torn; a data block is a newer version of all its sectors.
  private mutating func applyImage(_ index: Int, of record: JournalRecord) throws(VolumeError) {
    let offset = buffer.load(UInt64.self, at: JournalRecord.entryOffset(index))
    if offset < geometry.dataOffset {
      let block = Int((offset - geometry.leafOffset) / UInt64(geometry.blockSize))
      try readPayload(index, of: record)
      leaves.replace(block, with: unit)
      imaged.insert(block)
      return
    }
    let perBlock = UInt64(geometry.blockSize / geometry.sectorSize)
    let first = (offset - geometry.dataOffset) / UInt64(geometry.blockSize) * perBlock
    for i in 0..<perBlock where first + i < geometry.sectorCount {
      let place = record.payloadOffset + index * geometry.blockSize + Int(i) * geometry.sectorSize
      note(SectorIndex(first + i), record, offset: place)
    }
  }

  /// Commits are serial on the medium, so a later record of this epoch behind the end proves that the end is damage.
  private mutating func searchBehindEnd() throws(VolumeError) {
    var behind = UInt64(geometry.blockSize)
    while journal.used + behind < geometry.ringSize {
      let position = (journal.head.position + behind) % geometry.ringSize
      behind += UInt64(geometry.blockSize)
      guard let record = try readRecord(at: position, from: journal.head.sequence + 1), try isAuthentic(record)
      else { continue }
      throw damage(
        "journal record \(journal.head.sequence) at \(ByteOffset(geometry.ringOffset + journal.head.position)) is damaged, though record \(record.cursor.sequence) behind it is whole"
      )
    }
  }
}

extension JournalRecord {
  fileprivate func sameSize(as other: JournalRecord) -> JournalRecord? {
    kind == other.kind && count == other.count ? self : nil
  }
}
