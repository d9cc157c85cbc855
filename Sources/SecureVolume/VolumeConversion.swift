import BlockIO
import Crypto
import Primitives

// The same store in another layout. The block size is in every MAC and determines every place, so that a new image is
// written; what makes it the same store goes along: its UUID, store key, slots, lineage, and what it is bound to.
extension SecureVolume {
  /// Writes this store, as it is, into `destination`, which is overwritten and must have the size of `geometry`. The
  /// image is closed cleanly, one generation further and in an epoch of its own; all is durable on return. An anchor of
  /// this image knows nothing of that one, and is to be told (`unlock(with:slotName:accepting:)`).
  ///
  /// - Parameter progress: called with sectors done, now and then.
  /// - Throws: `.noSpace` where `geometry` holds less than this store; `.notAuthentic` where a sector doesn't verify.
  public func convert(
    to destination: any BlockDevice, geometry new: Geometry, progress: (UInt64) -> Void = { _ in }
  ) throws(VolumeError) {
    guard new.volumeSize >= geometry.volumeSize else {
      throw VolumeError(
        .noSpace, store: destination.name, "would hold \(new.volumeSize), and the store has \(geometry.volumeSize)")
    }
    try VolumeFormatter.requireBlocks(of: new, on: destination)
    var header = Header(
      uuid: uuid, geometry: new, isClean: true, sequence: try counted(self.header.sequence, "its headers"),
      generation: Generation(try counted(generation.value, "its generations")), epoch: InlineBytes16(),
      cursor: JournalCursor(
        position: 0, sequence: try counted(journal.head.sequence, "its records"), chain: InlineBytes32()),
      root: InlineBytes32(), lineage: self.header.lineage, auditHeads: self.header.auditHeads,
      binding: self.header.binding, slots: self.header.slots)
    var own = try keys.copy(store: destination.name)
    let digest: InlineBytes32
    do {
      digest = try Header.geometryDigest(uuid: uuid, geometry: new)
      header.epoch = try Random.bytes16()
      try header.lineage.begin(
        header.epoch, after: self.header.generation, auditHeads: header.auditHeads, digest: digest,
        with: &own.structure)
    } catch { throw VolumeError(error, store: destination.name) }
    let fresh = VolumeFormatter.Fresh(keys: own, header: header, digest: digest)
    try VolumeFormatter.write(
      fresh, destination,
      { (sector, plaintext) throws(VolumeError) in try self.fill(plaintext, sector, of: new) }, progress)
  }

  /// The content of a sector of another layout; zeros behind the volume's end.
  private func fill(
    _ plaintext: consuming MutableSpan<UInt8>, _ sector: SectorIndex, of new: Geometry
  ) throws(VolumeError) {
    let start = sector.value * UInt64(new.blockSize)
    guard start < geometry.volumeSize.value else { return }
    let count = Int(min(UInt64(new.blockSize), geometry.volumeSize.value - start))
    let skipped = Int(start % UInt64(sectorSize))
    let first = SectorIndex(start / UInt64(sectorSize))
    if skipped == 0, count % sectorSize == 0 {
      return try read(first, into: plaintext._mutatingExtracting(0..<count))
    }
    // Smaller blocks: one of this volume's sectors has several of them.
    var whole = ByteBuffer(count: sectorSize)
    try read(first, into: whole.mutableSpan)
    plaintext.copy(from: whole.span(skipped..<skipped + count))
  }
}
