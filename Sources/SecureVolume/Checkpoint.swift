import Crypto
import Primitives

/// A checkpoint under way (FORMAT §7): what commits put into the ring goes in place, so that ring space comes free. It
/// proceeds in steps, between which commits go on; it covers the commits before its record of images.
struct Checkpoint: ~Copyable {
  enum Phase: Equatable {
    /// Sectors go in place; the number done.
    case sectors(Int)
    case leafBlocks
    case firstHeader
    case secondHeader
    case release
  }

  var phase = Phase.sectors(0)
  /// `Medium.syncs` when the last step had written: the next needs it durable. Under load the sync of a commit between
  /// two steps sees to that, so that a checkpoint costs few syncs of its own.
  var writtenAt: UInt64 = 0
  /// The sectors to be copied, in order, and where in the ring they are.
  let sectors: [(sector: SectorIndex, position: UInt64)]
  /// The leaf blocks to be written, and their content as of the record of images, one after the other.
  let blocks: [Int]
  let images: ByteBuffer
  /// What both headers will say.
  let header: Header

  borrowing func writeLeafBlocks(_ geometry: Geometry, to medium: inout Medium) throws(VolumeError) {
    for (i, block) in blocks.enumerated() {
      try medium.write(
        images, i * geometry.blockSize..<(i + 1) * geometry.blockSize,
        at: geometry.leafOffset + UInt64(block * geometry.blockSize))
    }
  }
}

extension SecureVolume {
  /// Sectors copied in a step: so few that a commit in between waits for less than a sync.
  private static var sectorsPerStep: Int { 64 }

  /// Brings everything in place and gives the header new content, which `update` makes; both copies are durable on
  /// return and the ring is empty; and so is what the anchor says of them.
  func settle(_ moment: AnchorMoment = .running, _ update: (inout Header) -> Void) throws(VolumeError) {
    precondition(!isClosed)
    if checkpoint == nil, !journal.isEmpty { try startCheckpoint() }
    try finishCheckpoint()
    // What was committed while that checkpoint was under way.
    if !journal.isEmpty {
      try startCheckpoint()
      try finishCheckpoint()
    }
    var next = header
    update(&next)
    next.sequence += 1
    do { try writeHeaders(next) } catch {
      medium.giveUp(error)
      throw error
    }
    try advanceAnchor(moment)
  }

  func finishCheckpoint() throws(VolumeError) {
    while checkpoint != nil { try stepCheckpoint() }
  }

  /// Journals the blocks that will be overwritten in part, durably, and fixes what the headers will say.
  ///
  /// A checkpoint that breaks off for whatever reason, a read that failed among them, leaves a volume that takes no more
  /// writes: what it had marked as sealed may not be in the journal. Opening anew recovers all that was acknowledged.
  func startCheckpoint() throws(VolumeError) {
    do { try beginCheckpoint() } catch {
      medium.giveUp(error)
      throw error
    }
  }

  private func beginCheckpoint() throws(VolumeError) {
    try medium.mayWrite()
    let blocks = leaves.dirtyBlocks
    let partial = geometry.sectorSize < geometry.blockSize ? partialBlocks(sectorsInJournal.map(\.sector)) : []
    let count = blocks.count + partial.count
    let size = geometry.imagesSize(blocks: UInt64(count))
    // Every commit leaves this room; only a journal that another program made can lack it.
    guard journal.used + size <= geometry.ringSize else {
      throw VolumeError(.notAuthentic(.journal), store: name, "its journal leaves no room for a checkpoint")
    }
    if record.count < Int(size) { record = ByteBuffer(count: Int(size)) }

    let images = leafImages(blocks)
    let mac: InlineBytes32
    let root: InlineBytes32
    do { root = try leaves.seal(generation: generation, digest: digest, with: &keys.structure) } catch {
      throw VolumeError(error, store: name)
    }
    let header = JournalRecord(
      kind: .images, count: count, generation: generation, epoch: self.header.epoch, cursor: journal.head, root: root)
    header.encode(to: &record, geometry: geometry)
    var offsets = blocks.map { geometry.leafOffset + UInt64($0 * geometry.blockSize) }
    record.copy(from: images, at: header.payloadOffset)
    for (i, block) in partial.enumerated() {
      try composeBlock(block, at: header.payloadOffset + (blocks.count + i) * geometry.blockSize)
      offsets.append(geometry.dataOffset + block * UInt64(geometry.blockSize))
    }
    do { mac = try seal(header, offsets: offsets, size: Int(size)) } catch { throw VolumeError(error, store: name) }
    if !Mutant.overwriteWithoutImages.isOn {
      try medium.append(record, size: Int(size), to: journal)
      try medium.sync()
      journal.append(size: size, mac: mac)
    }
    resumeCheckpoint(blocks: blocks, images: images, root: root)
  }

  /// Goes on from a record of images that is durable and the last in the journal.
  func resumeCheckpoint(blocks: [Int], images: consuming ByteBuffer, root: InlineBytes32) {
    var next = header
    next.sequence += 1
    next.cursor = journal.head
    next.generation = generation
    next.root = root
    next.isClean = false
    checkpoint = Checkpoint(sectors: sectorsInJournal, blocks: blocks, images: images, header: next)
  }

  /// The sectors whose newest version is in the ring, in order, and where there.
  var sectorsInJournal: [(sector: SectorIndex, position: UInt64)] {
    journal.versions.map { (sector: $0.key, position: $0.value.position) }.sorted { $0.sector < $1.sector }
  }

  /// A copy of leaf blocks as they are now, since commits go on changing the table.
  func leafImages(_ blocks: [Int]) -> ByteBuffer {
    var images = ByteBuffer(count: blocks.count * geometry.blockSize)
    for (i, block) in blocks.enumerated() { images.copy(from: leaves.block(block), at: i * geometry.blockSize) }
    return images
  }

  private func seal(_ header: JournalRecord, offsets: [UInt64], size: Int) throws(CryptoError) -> InlineBytes32 {
    for (i, offset) in offsets.enumerated() {
      let start = header.payloadOffset + i * geometry.blockSize
      let block = start..<start + geometry.blockSize
      let mac = try JournalRecord.imageMAC(
        record, block, offset: offset, digest: digest, with: &keys.structure)
      let entry = JournalRecord.entryOffset(i)
      record.store(offset, at: entry)
      record.store(mac, at: entry + 8)
    }
    return try finish(header, size: size)
  }

  /// The data blocks of which some sectors will be overwritten and others not, in order.
  private func partialBlocks(_ sectors: [SectorIndex]) -> [UInt64] {
    let perBlock = UInt64(geometry.blockSize / geometry.sectorSize)
    var partial: [UInt64] = []
    var i = 0
    while i < sectors.count {
      let block = sectors[i].value / perBlock
      let first = i
      while i < sectors.count, sectors[i].value / perBlock == block { i += 1 }
      let existing = min(perBlock, geometry.sectorCount - block * perBlock)
      if UInt64(i - first) < existing { partial.append(block) }
    }
    return partial
  }

  /// Puts a data block as it will be into the record at `offset`: what lies in place, and newer versions over it.
  private func composeBlock(_ block: UInt64, at offset: Int) throws(VolumeError) {
    try medium.read(
      at: geometry.dataOffset + block * UInt64(geometry.blockSize), into: &record,
      offset..<offset + geometry.blockSize)
    let perBlock = geometry.blockSize / geometry.sectorSize
    for i in 0..<perBlock {
      let sector = SectorIndex(block * UInt64(perBlock) + UInt64(i))
      guard let version = journal.versions[sector] else { continue }
      let place = offset + i * geometry.sectorSize
      try medium.read(journal, at: version.position, into: &record, place..<place + geometry.sectorSize)
    }
  }

  /// One step. When the last is done the ring space is free.
  func stepCheckpoint() throws(VolumeError) {
    do { try advanceCheckpoint() } catch {
      medium.giveUp(error)
      throw error
    }
  }

  private func advanceCheckpoint() throws(VolumeError) {
    guard let phase = checkpoint?.phase, let next = checkpoint?.header else { return }
    try medium.mayWrite()
    switch phase {
    case .sectors(let done):
      let count = checkpoint?.sectors.count ?? 0
      let end = min(done + Self.sectorsPerStep, count)
      for i in done..<end { try copyInPlace(i) }
      checkpoint?.phase = end < count ? .sectors(end) : .leafBlocks
    case .leafBlocks:
      try checkpoint?.writeLeafBlocks(geometry, to: &medium)
      advance(to: .firstHeader)
    case .firstHeader:
      try makeDurable()
      try putHeader(next, copy: next.copyOrder[0])
      if Mutant.freeRingBeforeHeaderSynced.isOn { journal.release(upTo: next.cursor) }
      advance(to: .secondHeader)
    case .secondHeader:
      try makeDurable()
      if !Mutant.skipSecondHeaderCopy.isOn { try putHeader(next, copy: next.copyOrder[1]) }
      advance(to: .release)
    case .release:
      try makeDurable()
      header = next
      journal.release(upTo: next.cursor)
      checkpoint = nil
      releaseRecord()
      advanceAnchorIfDue()
    }
  }

  private func advance(to phase: Checkpoint.Phase) {
    checkpoint?.writtenAt = medium.syncs
    checkpoint?.phase = phase
  }

  /// Makes what the step before wrote durable, unless a commit's sync has.
  private func makeDurable() throws(VolumeError) {
    if checkpoint?.writtenAt == medium.syncs { try medium.sync() }
  }

  private func copyInPlace(_ index: Int) throws(VolumeError) {
    guard let (sector, position) = checkpoint?.sectors[index] else { return }
    try medium.read(journal, at: position, into: &ciphertext, 0..<sectorSize)
    try medium.write(ciphertext, 0..<sectorSize, at: geometry.place(of: sector).value)
  }
}
