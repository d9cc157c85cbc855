import BlockIO
import Primitives

/// The plain form (FORMAT §9): the stream with nothing around it, for inspection and import. Nothing is encrypted or
/// authenticated, and a commit writes in place: **not safe against power cuts**, which can leave a part of it.
///
/// A device whose size is no multiple of the sector size has a last sector whose missing bytes read as zeros and must
/// stay zeros.
public final class PlainVolume: SectorVolume {
  private let device: any BlockDevice
  private let size: UInt64
  private var isFailed = false
  /// The unit of reading and writing; the plain form itself has none.
  public let sectorSize = 4096
  public let sectorCount: UInt64

  public init(_ device: any BlockDevice) {
    self.device = device
    size = device.size.value
    sectorCount = size / UInt64(sectorSize) + (size % UInt64(sectorSize) == 0 ? 0 : 1)
  }

  public var name: String { device.name }
  public var byteCount: ByteCount { ByteCount(size) }
  public var isWritable: Bool { device.isWritable }

  /// Reads as many whole sectors as `plaintext` holds, from `sector` on.
  public func read(_ sector: SectorIndex, into plaintext: consuming MutableSpan<UInt8>) throws(VolumeError) {
    let count = UInt64(plaintext.count / sectorSize)
    precondition(
      plaintext.count % sectorSize == 0 && sector.value <= sectorCount && count <= sectorCount - sector.value)
    let start = sector.value * UInt64(sectorSize)
    let present = Int(min(UInt64(plaintext.count), size - min(size, start)))
    if present < plaintext.count { plaintext.fill(0) }
    guard present > 0 else { return }
    do {
      try device.read(at: ByteOffset(start), into: plaintext._mutatingExtracting(0..<present))
    } catch { throw VolumeError(error, store: name) }
  }

  /// Writes `changes` in place, then syncs. Durable on return, but not atomic.
  public func commit(_ changes: borrowing SectorChanges) throws(VolumeError) {
    precondition(changes.sectorSize == sectorSize)
    guard !isFailed else {
      throw VolumeError(.failedEarlier, store: name, "an earlier write failed; open it anew")
    }
    guard isWritable else { throw VolumeError(.readOnly, store: name, "is opened for reading only") }
    for place in changes.sectors.indices {
      let present = present(changes.sectors[place])
      guard changes.plaintext(place).extracting(present..<sectorSize).isZero else {
        throw VolumeError(.noSpace, store: name, "has \(size) bytes, and more are to be written; make it larger first")
      }
    }
    do {
      for place in changes.sectors.indices {
        let sector = changes.sectors[place]
        try device.write(
          changes.plaintext(place).extracting(0..<present(sector)),
          at: ByteOffset(sector.value * UInt64(sectorSize)))
      }
      try device.sync()
    } catch {
      isFailed = true
      throw VolumeError(error, store: name)
    }
  }

  /// How many of the sector's bytes the device has.
  private func present(_ sector: SectorIndex) -> Int {
    precondition(sector.value < sectorCount)
    return Int(min(UInt64(sectorSize), size - sector.value * UInt64(sectorSize)))
  }
}
