import Primitives
import SecureVolume

/// Reads bytes at any place of a volume: whole sectors straight into the destination, parts through one buffer. The
/// last sector read in part is kept until `forget`, so that reading small pieces in order reads each sector once.
final class SectorReader {
  private let volume: any SectorVolume
  private var buffer: ByteBuffer
  private var held: SectorIndex?

  init(_ volume: any SectorVolume) {
    self.volume = volume
    buffer = ByteBuffer(count: volume.sectorSize)
  }

  /// Fills all of `destination` from byte `offset` on, which must lie in the volume.
  func read(_ offset: ByteOffset, into destination: consuming MutableSpan<UInt8>) throws(BlobStoreError) {
    let size = UInt64(volume.sectorSize)
    var done = 0
    while done < destination.count {
      let place = offset.value + UInt64(done)
      let sector = SectorIndex(place / size)
      let skipped = Int(place % size)
      let left = destination.count - done
      if skipped == 0, left >= volume.sectorSize {
        let whole = left / volume.sectorSize * volume.sectorSize
        do {
          try volume.read(sector, into: destination._mutatingExtracting(done..<done + whole))
        } catch { throw BlobStoreError(error) }
        done += whole
      } else {
        let count = min(left, volume.sectorSize - skipped)
        try hold(sector)
        destination.copy(from: buffer.span(skipped..<skipped + count), at: done)
        done += count
      }
    }
  }

  private func hold(_ sector: SectorIndex) throws(BlobStoreError) {
    guard held != sector else { return }
    held = nil
    do { try volume.read(sector, into: buffer.mutableSpan) } catch { throw BlobStoreError(error) }
    held = sector
  }

  /// Drops what is held: after a commit it may be old, and plaintext shouldn't lie around.
  func forget() {
    guard held != nil else { return }
    held = nil
    buffer.wipe(0..<buffer.count)
  }
}
