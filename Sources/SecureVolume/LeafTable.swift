import Crypto
import Primitives

/// What a sector's newest version must look like (FORMAT §5).
struct Leaf: Equatable, Sendable {
  let tag: InlineBytes16
  let nonce: UInt64
  let keyEpoch: UInt32

  init(tag: InlineBytes16, nonce: UInt64, keyEpoch: UInt32 = Format.keyEpoch) {
    self.tag = tag
    self.nonce = nonce
    self.keyEpoch = keyEpoch
  }

  init(_ bytes: borrowing ByteBuffer, at offset: Int) {
    tag = InlineBytes16(bytes.span, at: offset)
    nonce = bytes.load(UInt64.self, at: offset + 16)
    keyEpoch = bytes.load(UInt32.self, at: offset + 24)
  }

  var isWellFormed: Bool { keyEpoch == Format.keyEpoch }

  func encode(to out: inout ByteBuffer, at offset: Int) {
    out.store(tag, at: offset)
    out.store(nonce, at: offset + 16)
    out.store(keyEpoch, at: offset + 24)
    out.store(UInt32(0), at: offset + 28)
  }
}

/// The leaves of all sectors, as they lie on disk, and the MACs of their blocks: the integrity tree (FORMAT §6), held
/// in memory from opening to closing. What is read from the data sectors is believed only against it.
///
/// The table runs ahead of the image: it changes with every commit; of the image's two tables the one that doesn't
/// count is written with every checkpoint, which then names it. So each block is remembered as stale in both until it
/// was written there.
struct LeafTable: ~Copyable, Sendable {
  let geometry: Geometry
  /// Which table of the image counts, 0 or 1.
  var current: Int
  private(set) var bytes: ByteBuffer
  private var blockMACs: ByteBuffer
  private var unsealed: [Bool]
  /// By table: the blocks that it lacks.
  private var stale: [[Bool]]

  /// A table of zeros. Nothing is assumed of what the image has.
  init(geometry: Geometry, current: Int) {
    self.geometry = geometry
    self.current = current
    bytes = ByteBuffer(count: Int(geometry.leafTableSize))
    blockMACs = ByteBuffer(count: geometry.leafBlocks * Format.macSize)
    unsealed = Array(repeating: true, count: geometry.leafBlocks)
    stale = [unsealed, unsealed]
  }

  subscript(sector: SectorIndex) -> Leaf {
    get { Leaf(bytes, at: Int(sector.value) * Format.leafSize) }
    set {
      newValue.encode(to: &bytes, at: Int(sector.value) * Format.leafSize)
      let block = Int(sector.value) / geometry.leavesPerBlock
      unsealed[block] = true
      stale[1 - current][block] = true
      if !Mutant.trackOneTable.isOn { stale[current][block] = true }
    }
  }

  /// The table that the next checkpoint writes.
  var other: Int { 1 - current }

  /// The blocks that the other table lacks; from now on it is taken to have them.
  mutating func takeStaleBlocks() -> [Int] {
    let blocks = stale[other].indices.filter { stale[other][$0] }
    stale[other] = Array(repeating: false, count: geometry.leafBlocks)
    return blocks
  }

  /// Nothing is assumed of the other table any more.
  mutating func distrustOther() { stale[other] = Array(repeating: true, count: geometry.leafBlocks) }

  @_lifetime(borrow self)
  func block(_ index: Int) -> Span<UInt8> { bytes.span(range(index)) }

  private func range(_ index: Int) -> Range<Int> { index * geometry.blockSize..<(index + 1) * geometry.blockSize }

  /// Reads the table that counts. A block that can't be read goes to `unreadable`, and stays zero; where that throws,
  /// so does this.
  mutating func load(
    _ medium: borrowing Medium, unreadable: (VolumeError, UInt64) throws(VolumeError) -> Void
  ) throws(VolumeError) {
    let start = geometry.leafTableOffset(current)
    do throws(VolumeError) { try medium.read(at: start, into: &bytes, 0..<bytes.count) } catch {
      for index in 0..<geometry.leafBlocks {
        let offset = start + UInt64(range(index).lowerBound)
        do throws(VolumeError) { try medium.read(at: offset, into: &bytes, range(index)) } catch {
          bytes.wipe(range(index))
          try unreadable(error, offset)
        }
      }
    }
    // Headers name a table only after it was synced.
    stale[current] = Array(repeating: false, count: geometry.leafBlocks)
  }

  /// Computes the MACs of the blocks that changed, and the root over all, as of now.
  mutating func seal(
    generation: Generation, digest: InlineBytes32, with mac: inout StructureMAC
  ) throws(CryptoError) -> InlineBytes32 {
    for index in unsealed.indices where unsealed[index] {
      try mac.startInput(.leafBlock)
      try mac.update(digest)
      try mac.update(UInt64(index))
      try mac.update(bytes, range(index))
      let blockMAC = try mac.finish()
      blockMACs.store(blockMAC, at: index * Format.macSize)
      unsealed[index] = false
    }
    try mac.startInput(.root)
    try mac.update(digest)
    try mac.update(generation.value)
    try mac.update(UInt64(geometry.leafBlocks))
    try mac.update(blockMACs, 0..<blockMACs.count)
    return try mac.finish()
  }

  /// Refuses an authentic table that is not as FORMAT has it.
  func requireWellFormed(store: String) throws(VolumeError) {
    let end = Int(geometry.sectorCount) * Format.leafSize
    for place in stride(from: 0, to: end, by: Format.leafSize)
    where !Leaf(bytes, at: place).isWellFormed || bytes.load(UInt32.self, at: place + 28) != 0 {
      throw VolumeError(
        .notAuthentic(.sector), store: store,
        "the leaf of sector \(place / Format.leafSize) is not as the format has it")
    }
    guard bytes.span(end..<bytes.count).isZero else {
      throw VolumeError(.notAuthentic(.tree), store: store, "the leaf table goes on behind the last sector")
    }
  }
}
