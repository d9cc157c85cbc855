import Crypto
import Primitives

/// What a sector's newest version must look like (FORMAT §5).
struct Leaf: Equatable, Sendable {
  let tag: InlineBytes16
  let nonce: UInt64
  let keyEpoch: UInt32

  init(tag: InlineBytes16, nonce: UInt64, keyEpoch: UInt32) {
    self.tag = tag
    self.nonce = nonce
    self.keyEpoch = keyEpoch
  }

  init(_ bytes: borrowing ByteBuffer, at offset: Int) {
    tag = InlineBytes16(bytes.span, at: offset)
    nonce = bytes.load(UInt64.self, at: offset + 16)
    keyEpoch = bytes.load(UInt32.self, at: offset + 24)
  }

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
/// The table runs ahead of the image: it changes with every commit, its blocks in the image with every checkpoint.
struct LeafTable: ~Copyable, Sendable {
  let geometry: Geometry
  private(set) var bytes: ByteBuffer
  private var blockMACs: [InlineBytes32]
  private var dirty: [Bool]

  /// A table of zeros, every block to be written.
  init(geometry: Geometry) {
    self.geometry = geometry
    bytes = ByteBuffer(count: Int(geometry.leafTableSize))
    blockMACs = Array(repeating: InlineBytes32(), count: geometry.leafBlocks)
    dirty = Array(repeating: true, count: geometry.leafBlocks)
  }

  subscript(sector: SectorIndex) -> Leaf {
    get { Leaf(bytes, at: Int(sector.value) * Format.leafSize) }
    set {
      newValue.encode(to: &bytes, at: Int(sector.value) * Format.leafSize)
      dirty[Int(sector.value) / geometry.leavesPerBlock] = true
    }
  }

  /// The blocks that changed since they were last sealed.
  var dirtyBlocks: [Int] { dirty.indices.filter { dirty[$0] } }

  @_lifetime(borrow self)
  func block(_ index: Int) -> Span<UInt8> { bytes.span(range(index)) }

  /// Takes a block's bytes as they were found in the image.
  mutating func replace(_ index: Int, with block: borrowing ByteBuffer) {
    bytes.copy(from: block, at: range(index).lowerBound)
    dirty[index] = true
  }

  private func range(_ index: Int) -> Range<Int> { index * geometry.blockSize..<(index + 1) * geometry.blockSize }

  /// Computes the MACs of the blocks that changed, and the root over all, as of now; marks every block as sealed.
  mutating func seal(
    generation: Generation, digest: InlineBytes32, with mac: inout StructureMAC
  ) throws(CryptoError) -> InlineBytes32 {
    for index in dirty.indices where dirty[index] {
      try mac.startInput(.leafBlock)
      try mac.update(digest)
      try mac.update(UInt64(index))
      try mac.update(bytes, range(index))
      blockMACs[index] = try mac.finish()
      dirty[index] = false
    }
    try mac.startInput(.root)
    try mac.update(digest)
    try mac.update(generation.value)
    try mac.update(UInt64(blockMACs.count))
    for blockMAC in blockMACs { try mac.update(blockMAC) }
    return try mac.finish()
  }

  /// Refuses an authentic table that is not as FORMAT has it.
  func requireWellFormed(store: String) throws(VolumeError) {
    let end = Int(geometry.sectorCount) * Format.leafSize
    for place in stride(from: 0, to: end, by: Format.leafSize)
    where bytes.load(UInt32.self, at: place + 24) != Format.keyEpoch || bytes.load(UInt32.self, at: place + 28) != 0 {
      throw VolumeError(
        .notAuthentic(.sector), store: store,
        "the leaf of sector \(place / Format.leafSize) is not as the format has it")
    }
    guard bytes.span(end..<bytes.count).isZero else {
      throw VolumeError(.notAuthentic(.tree), store: store, "the leaf table goes on behind the last sector")
    }
  }

  /// Marks a block as differing from the image, so that the next checkpoint writes it.
  mutating func markDirty(_ index: Int) { dirty[index] = true }
}
