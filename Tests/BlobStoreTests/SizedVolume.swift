import BlockIO
import Primitives
import SecureVolume
import StorageSimulation

/// A plain volume with larger sectors than the plain form has: each is some of its.
final class SizedVolume: SectorVolume {
  let sectorSize: Int
  private let plain: PlainVolume

  init(_ disk: SimulatedDisk, sectorSize: Int) {
    precondition(sectorSize % 4096 == 0 && disk.size.value % UInt64(sectorSize) == 0)
    self.sectorSize = sectorSize
    plain = PlainVolume(disk)
  }

  private var ratio: UInt64 { UInt64(sectorSize / plain.sectorSize) }
  var name: String { plain.name }
  var sectorCount: UInt64 { plain.sectorCount / ratio }
  var isWritable: Bool { plain.isWritable }

  func read(_ sector: SectorIndex, into plaintext: consuming MutableSpan<UInt8>) throws(VolumeError) {
    precondition(plaintext.count % sectorSize == 0)
    try plain.read(SectorIndex(sector.value * ratio), into: plaintext)
  }

  func commit(_ changes: borrowing SectorChanges) throws(VolumeError) {
    precondition(changes.sectorSize == sectorSize)
    var parts = SectorChanges(sectorSize: plain.sectorSize)
    for place in changes.sectors.indices {
      for part in 0..<Int(ratio) {
        let new = parts.append(SectorIndex(changes.sectors[place].value * ratio + UInt64(part)))
        var plaintext = parts.mutablePlaintext(new)
        plaintext.copy(
          from: changes.plaintext(place).extracting(part * plain.sectorSize..<(part + 1) * plain.sectorSize))
      }
    }
    try plain.commit(parts)
  }
}

/// A volume on a disk that has one already.
func volume(on disk: SimulatedDisk, sectorSize: Int = 4096) -> any SectorVolume {
  sectorSize == 4096 ? PlainVolume(disk) : SizedVolume(disk, sectorSize: sectorSize)
}
