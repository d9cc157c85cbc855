import Crypto
import Primitives

/// A checkpoint under way (FORMAT §7): what commits put into the ring goes in place, so that ring space comes free. It
/// proceeds in steps, between which commits go on; it covers the commits before its beginning.
struct Checkpoint: ~Copyable {
  enum Phase: Equatable {
    /// Sectors go in place; the number done.
    case sectors(Int)
    case leafBlocks
    case firstHeader
    case secondHeader
    case release
  }

  /// A sector to be copied: where in the ring it is, and what it must look like there.
  struct Source {
    let sector: SectorIndex
    let position: UInt64
    let leaf: Leaf
  }

  var phase = Phase.sectors(0)
  /// `Medium.syncs` when the last step had written: the next needs it durable. Under load the sync of a commit between
  /// two steps sees to that, so that a checkpoint costs few syncs of its own.
  var writtenAt: UInt64 = 0
  /// In the order of their sectors.
  let sources: [Source]
  /// The leaf blocks to be written into the other table, and their content when the checkpoint began, one after the
  /// other.
  let blocks: [Int]
  let copies: ByteBuffer
  /// What both headers will say.
  let header: Header

  /// The number of sources from `start` on that lie side by side in place, at most `most`.
  borrowing func run(from start: Int, upTo most: Int) -> Int {
    var run = 1
    while run < most, start + run < sources.count,
      sources[start + run].sector.value == sources[start].sector.value + UInt64(run)
    { run += 1 }
    return run
  }

  /// Writes runs of neighbouring blocks at once.
  borrowing func writeLeafBlocks(_ geometry: Geometry, to medium: inout Medium) throws(VolumeError) {
    let size = geometry.blockSize
    var i = 0
    while i < blocks.count {
      var run = 1
      while i + run < blocks.count, blocks[i + run] == blocks[i] + run { run += 1 }
      try medium.write(
        copies, i * size..<(i + run) * size,
        at: geometry.leafTableOffset(header.leafTable) + UInt64(blocks[i] * size))
      i += run
    }
  }
}

extension SecureVolume {
  /// As `settleImage`; and what the anchor says of it is durable, too.
  ///
  /// - Throws: the anchor's error, after all else is durable, with `change` in its words, and `isDurable`.
  func settle(
    _ change: String, _ moment: AnchorMoment = .running, _ update: (inout Header) throws(VolumeError) -> Void
  ) throws(VolumeError) {
    try settleImage(update)
    try tellAnchor(moment, after: change)
  }

  /// Brings everything in place and gives the header new content, which `update` makes; both copies are durable on
  /// return and the ring is empty.
  func settleImage(_ update: (inout Header) throws(VolumeError) -> Void) throws(VolumeError) {
    precondition(!isClosed)
    try medium.mayWrite()
    try finishCheckpoint()
    if journal.isEmpty {
      try requireOwnHeaders()
    } else {
      try startCheckpoint()
      try finishCheckpoint()
    }
    var next = try nextHeader()
    try update(&next)
    do { try writeHeaders(next) } catch {
      medium.giveUp(error)
      throw error
    }
  }

  func finishCheckpoint() throws(VolumeError) {
    while checkpoint != nil { try stepCheckpoint() }
  }

  /// Fixes what the checkpoint covers and what the headers will say; writes nothing.
  ///
  /// A checkpoint that breaks off for whatever reason, a read that failed among them, leaves a volume that takes no
  /// more writes. Opening anew recovers all that was acknowledged.
  func startCheckpoint() throws(VolumeError) {
    try medium.mayWrite()
    do { try beginCheckpoint() } catch {
      medium.giveUp(error)
      throw error
    }
  }

  private func beginCheckpoint() throws(VolumeError) {
    var next = try nextHeader()
    next.cursor = journal.head
    next.generation = generation
    next.isClean = false
    next.leafTable = leaves.other
    next.root = try root(at: generation)
    let blocks = leaves.takeStaleBlocks()
    var copies = ByteBuffer(count: blocks.count * geometry.blockSize)
    for (i, block) in blocks.enumerated() { copies.copy(from: leaves.block(block), at: i * geometry.blockSize) }
    let sources = journal.versions.map {
      Checkpoint.Source(sector: $0.key, position: $0.value.position, leaf: leaves[$0.key])
    }
    checkpoint = Checkpoint(
      sources: sources.sorted { $0.sector < $1.sector }, blocks: blocks, copies: copies, header: next)
  }

  /// Of the leaves as they are now.
  func root(at generation: Generation) throws(VolumeError) -> InlineBytes32 {
    do { return try leaves.seal(generation: generation, digest: digest, with: &keys.structure) } catch {
      throw VolumeError(error, store: name)
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
      let count = checkpoint?.sources.count ?? 0
      // In batches, so that a commit in between doesn't wait for long.
      let end = min(done + geometry.batch, count)
      try copyInPlace(done..<end)
      checkpoint?.phase = end < count ? .sectors(end) : .leafBlocks
    case .leafBlocks:
      if Mutant.laterLeafBlocks.isOn {
        try writeTable(next.leafTable)
      } else {
        try checkpoint?.writeLeafBlocks(geometry, to: &medium)
      }
      advance(to: .firstHeader)
    case .firstHeader:
      try makeDurable()
      try putHeader(next, copy: next.copyOrder[0])
      if Mutant.nextCheckpointBetweenHeaders.isOn { try writeTable(1 - next.leafTable) }
      if Mutant.freeRingBeforeHeaderSynced.isOn { journal.release(upTo: next.cursor) }
      advance(to: .secondHeader)
    case .secondHeader:
      try makeDurable()
      if !Mutant.skipSecondHeaderCopy.isOn { try putHeader(next, copy: next.copyOrder[1]) }
      advance(to: .release)
    case .release:
      try makeDurable()
      header = next
      leaves.current = next.leafTable
      journal.release(upTo: next.cursor)
      checkpoint = nil
      releaseRecord()
      advanceAnchorIfDue()
    }
  }

  /// For faults on purpose: all leaf blocks as they are now.
  private func writeTable(_ table: Int) throws(VolumeError) {
    try medium.write(leaves.bytes, 0..<leaves.bytes.count, at: geometry.leafTableOffset(table))
  }

  private func advance(to phase: Checkpoint.Phase) {
    checkpoint?.writtenAt = medium.syncs
    checkpoint?.phase = phase
  }

  /// Makes what the step before wrote durable, unless a commit's sync has.
  private func makeDurable() throws(VolumeError) {
    if checkpoint?.writtenAt == medium.syncs { try medium.sync() }
  }

  /// Copies sectors from the ring, at most a batch of them, each verified before it goes in place; neighbours at once.
  private func copyInPlace(_ range: Range<Int>) throws(VolumeError) {
    guard let sources = checkpoint?.sources[range] else { return }
    try readFromRing(sources)
    // Nothing was written yet. It is looked at past the cache, and so after what may be read through it: the kernel
    // drops both.
    if range.lowerBound == 0 { try requireOwnHeaders() }
    var index = range.lowerBound
    while index < range.upperBound, let run = checkpoint?.run(from: index, upTo: range.upperBound - index) {
      let start = (index - range.lowerBound) * sectorSize
      try medium.write(
        ciphertext, start..<start + run * sectorSize, at: geometry.place(of: sources[index].sector).value)
      index += run
    }
  }

  /// Reads these into `ciphertext`, one after the other, what lies side by side at once, and verifies them.
  private func readFromRing(_ sources: ArraySlice<Checkpoint.Source>) throws(VolumeError) {
    guard !sources.isEmpty else { return }
    var (first, index) = (sources.startIndex, sources.startIndex)
    while first < sources.endIndex {
      repeat {
        index += 1
      } while index < sources.endIndex
        && sources[index].position == sources[first].position + UInt64((index - first) * sectorSize)
      let start = (first - sources.startIndex) * sectorSize
      try medium.read(
        ring: geometry, at: sources[first].position, into: &ciphertext, start..<start + (index - first) * sectorSize)
      first = index
    }
    let failing: UInt64
    do {
      failing = try keys.sectors.failing(ciphertext, from: 0, size: sectorSize, count: sources.count) {
        (sources[sources.startIndex + $0].sector, sources[sources.startIndex + $0].leaf)
      }
    } catch { throw VolumeError(error, store: name) }
    guard failing == 0 else {
      throw VolumeError(
        .notAuthentic(.journal), store: name,
        "\(sources[sources.startIndex + failing.trailingZeroBitCount].sector) in the journal was changed after it was "
          + "written there; nothing more is written: restore the image from a backup")
    }
  }
}
