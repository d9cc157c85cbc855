import BlockIO
import Crypto
import Primitives

/// Makes a new store (FORMAT §7, Format). Until it returns, the device holds "not an image", never an empty store.
public enum VolumeFormatter {
  /// Formats `device`, which is overwritten: the caller has asked whether it may be.
  ///
  /// - Parameters:
  ///   - key: the first slot's key, and `name` the slot's.
  ///   - content: fills the plaintext of each sector, in order; it is called once for each.
  ///   - progress: called with sectors done, now and then.
  ///   - anchor: follows the store from its beginning. It gets a place before anything is written, and its record last; where this throws, a place
  ///     that was made for it is gone again.
  ///   - replacingAnchor: where there is an anchor in that place already, take it.
  /// - Throws: `.anchor`; `.noSpace` naming the size that is needed, before anything is written.
  /// - Returns: the store's UUID. All is durable.
  @discardableResult
  public static func format(
    _ device: any BlockDevice, geometry: Geometry, key: borrowing KeyEncryptionKey, name: String,
    cost: ScryptCost? = nil, created: UInt64,
    content: (SectorIndex, consuming MutableSpan<UInt8>) throws(VolumeError) -> Void,
    progress: (UInt64) -> Void = { _ in }, anchor: (any FreshnessAnchor)? = nil, replacingAnchor: Bool = false
  ) throws(VolumeError) -> StoreUUID {
    guard device.size >= geometry.imageSize else {
      throw VolumeError(
        .noSpace, store: device.name,
        "has \(device.size), and this store needs \(geometry.imageSize.value) bytes; give it a larger file or device")
    }
    try requireBlocks(of: geometry, on: device)
    let fresh = try makeKeys(device, geometry, key, name: name, cost: cost, created: created)
    if let anchor {
      do { try anchor.establish(for: fresh.header.uuid, keeping: nil, replacing: replacingAnchor) } catch {
        anchor.withdraw()
        throw VolumeError(error, store: device.name)
      }
    }
    do {
      var fresh = fresh
      fresh = try write(fresh, device, content, progress)
      if let anchor { try tell(anchor, &fresh, store: device.name) }
      return fresh.header.uuid
    } catch {
      anchor?.withdraw()
      throw error
    }
  }

  /// Refuses a place where a power cut can tear more at once than the layout can stand.
  static func requireBlocks(of geometry: Geometry, on device: any BlockDevice) throws(VolumeError) {
    guard device.blockSize <= geometry.blockSize else {
      throw VolumeError(
        .refused, store: device.name,
        "can be torn by a power cut in blocks of \(device.blockSize) bytes, and the store was to have blocks of "
          + "\(geometry.blockSize); give it `--block-size \(device.blockSize)`")
    }
  }

  /// What a new store begins with.
  struct Fresh: ~Copyable {
    var keys: VolumeKeys
    var header: Header
    let digest: InlineBytes32
  }

  private static func makeKeys(
    _ device: any BlockDevice, _ geometry: Geometry, _ key: borrowing KeyEncryptionKey, name: String,
    cost: ScryptCost?, created: UInt64
  ) throws(VolumeError) -> Fresh {
    do {
      let uuid = StoreUUID(random: try Random.bytes16())
      var keys = try VolumeKeys(storeKey: try Random.secret(count: 32), uuid: uuid)
      let digest = try Header.geometryDigest(uuid: uuid, geometry: geometry)
      var header = Header(
        uuid: uuid, geometry: geometry, isClean: true, sequence: 1, generation: Generation(0),
        epoch: try Random.bytes16(), cursor: JournalCursor(position: 0, sequence: 1, chain: InlineBytes32()),
        root: InlineBytes32(), slots: [KeySlot?](repeating: nil, count: Format.slotCount))
      header.slots[0] = try KeySlot.wrap(
        keys.storeKey, under: key, name: name, cost: cost, created: created, context: header.slotContext, index: 0)
      try header.lineage.begin(
        header.epoch, after: header.generation, auditHeads: header.auditHeads, digest: digest, with: &keys.structure)
      return Fresh(keys: keys, header: header, digest: digest)
    } catch { throw VolumeError(error, store: device.name) }
  }

  /// Writes all of an image, the headers last.
  @discardableResult
  static func write(
    _ fresh: consuming Fresh, _ device: any BlockDevice,
    _ content: (SectorIndex, consuming MutableSpan<UInt8>) throws(VolumeError) -> Void, _ progress: (UInt64) -> Void
  ) throws(VolumeError) -> Fresh {
    let geometry = fresh.header.geometry
    try wipeHeaders(of: device)
    var medium = Medium(device)
    try medium.writeZeros(geometry.ringOffset..<geometry.leafOffset)
    var leaves = LeafTable(geometry: geometry, current: 0)
    try writeSectors(&fresh.keys, &medium, geometry, &leaves, content, progress)
    try medium.write(leaves.bytes, 0..<leaves.bytes.count, at: geometry.leafTableOffset(0))
    try medium.writeZeros(geometry.leafTableOffset(1)..<geometry.dataOffset)
    do {
      fresh.header.root = try leaves.seal(
        generation: fresh.header.generation, digest: fresh.digest, with: &fresh.keys.structure)
    } catch { throw VolumeError(error, store: medium.name) }
    try medium.sync()
    for copy in 0...1 {
      let bytes: ByteBuffer
      do { bytes = try fresh.header.sealed(copy: copy, with: &fresh.keys.structure) } catch {
        throw VolumeError(error, store: medium.name)
      }
      try medium.write(bytes, 0..<bytes.count, at: Format.copyOffsets[copy])
      try medium.sync()
    }
    return fresh
  }

  /// Makes a device no store: durably, B before A, so that an old one stays whole until A goes, and then there is none.
  public static func wipeHeaders(of device: any BlockDevice) throws(VolumeError) {
    var medium = Medium(device)
    // With the unused space behind each, which may hold what was there before.
    for offset in Format.copyOffsets.reversed() {
      try medium.writeZeros(offset..<offset + Format.headerPlace)
      try medium.sync()
    }
  }

  /// Whether making an image in what was all zeros may have been cut short here: its headers and the least journal are
  /// zeros still, whatever follows. File systems and partition tables have something there.
  public static func mayBeCutShort(_ device: any BlockDevice) throws(BlockError) -> Bool {
    let end = min(Format.ringOffset + Format.minimumRingBlocks * 4096, device.size.value)
    var buffer = ByteBuffer(count: Int(end))
    try device.read(at: ByteOffset(0), into: buffer.mutableSpan)
    return buffer.span(0..<buffer.count).isZero
  }

  /// The anchor's first record.
  private static func tell(_ anchor: any FreshnessAnchor, _ fresh: inout Fresh, store: String) throws(VolumeError) {
    let counter: UInt64
    do { counter = try anchor.counter(for: .establishing) } catch { throw VolumeError(error, store: store) }
    let sealed: ByteBuffer
    do {
      sealed = try AnchorRecord(of: fresh.header, sequence: 1, counter: counter).sealed(
        digest: fresh.digest, with: &fresh.keys.structure)
    } catch { throw VolumeError(error, store: store) }
    do { try anchor.store(sealed, .establishing) } catch { throw VolumeError(error, store: store) }
  }

  private static func writeSectors(
    _ keys: inout VolumeKeys, _ medium: inout Medium, _ geometry: Geometry, _ leaves: inout LeafTable,
    _ content: (SectorIndex, consuming MutableSpan<UInt8>) throws(VolumeError) -> Void, _ progress: (UInt64) -> Void
  ) throws(VolumeError) {
    let size = geometry.blockSize
    var plaintext = ByteBuffer(count: size)
    var batch = ByteBuffer(count: geometry.batchSize)
    var first: UInt64 = 0
    while first < geometry.sectorCount {
      let count = Int(min(UInt64(geometry.batch), geometry.sectorCount - first))
      for i in 0..<count {
        let sector = SectorIndex(first + UInt64(i))
        plaintext.wipe(0..<plaintext.count)
        try content(sector, plaintext.mutableSpan)
        do { try keys.sectors.encrypt(plaintext.span, i, sector: sector, into: &batch, at: i * size) } catch {
          throw VolumeError(error, store: medium.name)
        }
      }
      do { try keys.sectors.tag(batch, from: 0, size: size, count: count) } catch {
        throw VolumeError(error, store: medium.name)
      }
      for i in 0..<count { leaves[SectorIndex(first + UInt64(i))] = keys.sectors.leaf(i) }
      try medium.write(batch, 0..<count * size, at: geometry.place(of: SectorIndex(first)).value)
      first += UInt64(count)
      progress(first)
    }
  }
}
