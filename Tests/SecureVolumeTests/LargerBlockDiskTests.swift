import BlockIO
import Primitives
import StorageSimulation
import Testing

@testable import SecureVolume

/// A store on a disk that can tear more at once than its block: it is read, and never written.
struct LargerBlockDiskTests {
  @Test(arguments: [4096, 8192, 16384, 32768, 65536], [false, true])
  func writtenOnlyWhereTheBlockSuffices(own: Int, isClosed: Bool) throws {
    let geometry = try #require(Geometry(blockSize: own, sectorCount: 3))
    // A multiple of every block.
    let size = (Int(geometry.imageSize.value) + 65535) / 65536 * 65536
    let disk = SimulatedDisk(size: ByteCount(UInt64(size)), blockSize: own)
    try format(disk, geometry, key: makeKey(1))
    let volume = try open(disk, makeKey(1))
    try volume.commit(changes(own, [(1, 7)]))
    if isClosed { try volume.close() }
    for below in [4096, 8192, 16384, 32768, 65536] {
      let larger = SimulatedDisk(copyOf: disk.bytes, blockSize: below)
      let error = thrownError { try open(larger, makeKey(1)).close() }
      if below <= own {
        #expect(error == nil, "\(own) on \(below)")
      } else {
        #expect(error?.code == .refused && error?.status.rawValue == 15, "\(own) on \(below)")
        #expect(error?.description.contains("`vnvram convert IMAGE NEW --block-size \(below)`") == true)
        #expect(larger.operations == 0 && larger.bytes == disk.bytes, "\(own) on \(below): it was written")
      }
      let reader = SimulatedDisk(copyOf: disk.bytes, blockSize: below, isWritable: false)
      #expect(try contents(open(reader, makeKey(1))) == [0, 7, 0])
    }
  }
}
