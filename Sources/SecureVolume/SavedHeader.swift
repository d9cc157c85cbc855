import BlockIO
import Crypto
import Primitives

// What speaks against putting a saved header back (FORMAT §13), asked of the volume as it would be then. That volume
// has the store key, so nothing here depends on the slots that are left in the image. Nothing is written.
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
      let verified: HeaderCopy.Verdict
      do { verified = try copy.verified(with: &keys.structure) } catch { throw VolumeError(error, store: name) }
      switch verified {
      case .valid(let other):
        if other != header { return Self.descriptions(of: other.slots) }
      // Authentic, and made by another program.
      case .flawed: return []
      case .other: break
      }
    }
    return nil
  }

  /// Throws where the ring holds an authentic record that this volume's header is older than, and that its replay
  /// didn't reach: something that was committed after the header was saved.
  ///
  /// A record whose number and place are those that come next, and whose payload doesn't verify, is what a power cut
  /// left of a commit; an opening ends there, too.
  public func requireNothingLater() throws(VolumeError) {
    var reader = JournalReader(medium, geometry, digest: digest)
    for position in stride(from: 0, to: geometry.ringSize, by: geometry.blockSize) {
      guard
        let found = try reader.record(at: position, from: header.cursor.sequence, epoch: nil, with: &keys.structure)
      else { continue }
      if !header.isClean, found.epoch == header.epoch, found.cursor.sequence < journal.head.sequence { continue }
      if found.cursor == journal.head, try !reader.payloadVerifies(found, with: &keys.sectors) { continue }
      throw VolumeError(
        .notAuthentic(.journal), store: name,
        "journal record \(found.cursor.sequence) at \(ByteOffset(geometry.ringOffset + position)) was committed after that "
          + "header was saved, and would be lost; `vnvram salvage` recovers what is in the image, and `vnvram restore` puts a "
          + "backup in its place")
    }
  }
}
