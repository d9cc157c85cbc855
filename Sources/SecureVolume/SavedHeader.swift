import BlockIO
import Crypto
import Primitives

// What speaks against putting a saved header back (FORMAT §13), asked of the volume as it would be then. That volume has
// the store key, so nothing here depends on the slots that are left in the image. Nothing is written.
extension SecureVolume {
  /// The slots of a header copy in `image` that verifies under this store's keys, and says anything else than this
  /// volume's header; `nil` where there is none.
  ///
  /// - Throws: `.device` where a copy can't be read: it may be the one that counts.
  public func slotsOfOtherHeader(on image: any BlockDevice) throws(VolumeError) -> [SlotDescription]? {
    for index in 0..<Format.copyOffsets.count {
      var failure: VolumeError?
      let copy = HeaderPair.read(index, Medium(image), &failure)
      if let failure { throw failure }
      let verified: Result<Header, FlawError>
      do { verified = try copy.verified(with: &keys.structure) } catch { throw VolumeError(error, store: name) }
      switch verified {
      case .success(let other):
        if other != header { return Self.descriptions(of: other.slots) }
      case .failure(let flaw):
        // Authentic, and made by another program.
        if flaw.flaw == .geometry || flaw.flaw == .malformed { return [] }
      }
    }
    return nil
  }

  /// Throws where the ring holds an authentic record that this volume's header is older than, and that its replay didn't
  /// reach: something that was committed after the header was saved.
  ///
  /// A record whose number and place are those that come next, and whose payload doesn't verify, is what a power cut left
  /// of a commit; an opening ends there, too.
  public func requireNothingLater() throws(VolumeError) {
    // Fields can be forged without a key. More of them than a ring holds is no accident, and not worth the time.
    var mayHash = geometry.ringSize
    var position: UInt64 = 0
    while position < geometry.ringSize {
      defer { position += UInt64(geometry.blockSize) }
      guard let found = try authenticRecord(at: position, from: header.cursor.sequence, mayHash: &mayHash) else {
        continue
      }
      if !header.isClean, found.epoch == header.epoch, found.cursor.sequence < journal.head.sequence { continue }
      if found.cursor == journal.head, try !payloadVerifies(found) { continue }
      throw VolumeError(
        .notAuthentic(.journal), store: name,
        "journal record \(found.cursor.sequence) at \(ByteOffset(geometry.ringOffset + position)) was committed after that "
          + "header was saved, and would be lost; `vnvram salvage` recovers what is in the image, and `vnvram restore` puts a "
          + "backup in its place")
    }
  }

  private func payloadVerifies(_ found: JournalRecord) throws(VolumeError) -> Bool {
    let size = found.unit(geometry)
    var unit = ByteBuffer(count: size)
    for i in 0..<found.count {
      let place = found.cursor.position + UInt64(found.payloadOffset + i * size)
      try medium.read(journal, at: place % geometry.ringSize, into: &unit, 0..<size)
      let start = JournalRecord.entryOffset(i)
      let value = record.load(UInt64.self, at: start)
      let leaf = Leaf(record, at: start + 8)
      let mac = InlineBytes32.load(record, at: start + 8)
      do {
        switch found.kind {
        case .commit:
          guard try keys.sectors.verify(unit, 0..<size, sector: SectorIndex(value), leaf: leaf) else { return false }
        case .images:
          let computed = try JournalRecord.imageMAC(
            unit, 0..<size, offset: value, digest: digest, with: &keys.structure)
          guard ConstantTime.equals(computed, mac) else { return false }
        }
      } catch { throw VolumeError(error, store: name) }
    }
    return true
  }
}

extension InlineBytes32 {
  /// Lends the buffer whole: a span of a class's property would outlive its access.
  fileprivate static func load(_ buffer: borrowing ByteBuffer, at offset: Int) -> InlineBytes32 {
    InlineBytes32(buffer.span, at: offset)
  }
}
