import BlockIO
import Primitives
import StorageSimulation
import Testing

@testable import SecureVolume

struct PlainVolumeTests {
  private func change(_ volume: PlainVolume, _ sector: Int, _ bytes: [UInt8]) -> SectorChanges {
    var changes = SectorChanges(sectorSize: volume.sectorSize)
    let place = changes.append(SectorIndex(sector))
    var out = changes.mutablePlaintext(place)
    out.copy(from: bytes.span)
    return changes
  }

  private func status(_ body: () throws(VolumeError) -> Void) -> Status? {
    do {
      try body()
      return nil
    } catch { return error.status }
  }

  @Test func readsAndWritesInPlace() throws {
    let disk = SimulatedDisk(size: ByteCount(65536))
    let volume = PlainVolume(disk)
    #expect(volume.sectorCount == 16)
    try volume.commit(change(volume, 3, [1, 2, 3]))
    #expect(Array(disk.durableBytes[12288..<12292]) == [1, 2, 3, 0])
    var two = ByteBuffer(count: 8192)
    try volume.read(SectorIndex(2), into: two.mutableSpan)
    let first = two.span[4096]
    #expect(first == 1)
  }

  /// The bytes that the last sector lacks read as zeros and stay zeros.
  @Test func sizeThatIsNoMultiple() throws {
    let disk = SimulatedDisk(size: ByteCount(8192))
    disk.overwrite(ByteOffset(4096), with: [UInt8](repeating: 5, count: 4096))
    disk.resize(to: ByteCount(5000))
    let volume = PlainVolume(disk)
    #expect(volume.sectorCount == 2)
    var sector = ByteBuffer(count: 4096)
    try volume.read(SectorIndex(1), into: sector.mutableSpan)
    let read = sector.span.array
    #expect(read == [UInt8](repeating: 5, count: 904) + [UInt8](repeating: 0, count: 3192))
    try volume.commit(change(volume, 1, [UInt8](repeating: 6, count: 904)))
    #expect(disk.bytes.count == 5000)
    #expect(disk.bytes[4999] == 6)
    #expect(
      status { () throws(VolumeError) in try volume.commit(change(volume, 1, [UInt8](repeating: 6, count: 905))) }
        == .noSpace)
  }

  @Test func afterAFailedWrite() throws {
    let disk = SimulatedDisk(size: ByteCount(8192))
    let volume = PlainVolume(disk)
    disk.inject(.fails(errno: 5), at: .sync(1))
    #expect(status { () throws(VolumeError) in try volume.commit(change(volume, 0, [1])) } == .inputOutput)
    #expect(status { () throws(VolumeError) in try volume.commit(change(volume, 0, [1])) } == .inputOutput)
  }
}
