import Foundation
import Primitives
import TestSupport
import Testing

@testable import BlockIO

@Suite(.serialized) struct LargeBlockTests {
  @Test(.enabled(if: LargeBlockFileSystem.isPermittedLarge, "no XFS with blocks of 16 KiB on a loop device here"))
  func fileOnLargeBlocks() throws {
    let system = try LargeBlockFileSystem(sector: 16384, block: 16384)
    let path = system.path + "/image"
    #expect(FileDevice.blockSize(ofNewFileAt: path) == 16384)
    let device = try FileDevice.create(path: path, size: ByteCount(1 << 20), replacing: false)
    #expect(device.blockSize == 16384)
    device.close()
    let opened = try FileDevice.open(path: path, access: .readOnly)
    #expect(opened.blockSize == 16384)
    #expect(opened.blockNotices == [])
    opened.close()
    let raw = try FileDevice.openUnlocked(path: system.loop.path)
    #expect(raw.blockSize == 16384)
    raw.close()
    #expect(FileDevice.deviceDescriptions(path).contains { FileManager.default.fileExists(atPath: $0) })
  }

  /// Either alone says so: a file system's larger than its device's, and the other way round.
  @Test(.enabled(if: LargeBlockFileSystem.isPermittedLarge, "no XFS with blocks of 16 KiB on a loop device here"))
  func eitherCounts() throws {
    let system = try LargeBlockFileSystem(sector: 512, block: 16384)
    #expect(FileDevice.blockSize(ofNewFileAt: system.path + "/image") == 16384)
    _ = consume system
    let other = try Scratch()
    let loop = try LoopDevice(sparse: other.file("disk"), size: 1 << 20, options: ["--sector-size", "16384"])
    // No file system: what a device says of itself.
    let device = try FileDevice.open(path: loop.path, access: .readWrite)
    #expect(device.blockSize == 16384)
    device.close()
    var status = stat()
    #expect(unsafe stat(loop.path, &status) == 0)
    let described = TearingUnit.Readings.Device(in: TearingUnit.Readings.Device.folder(of: status))
    #expect(described.physicalBlock == 16384)
    _ = consume loop
  }

  /// A copy that shares its blocks with the original has no space of its own either.
  @Test(.enabled(if: LargeBlockFileSystem.isPermitted, "no XFS on a loop device here")) func sharedBlocks() throws {
    let system = try LargeBlockFileSystem(sector: 512, block: 4096)
    let (original, copy) = (system.path + "/original", system.path + "/copy")
    let content = [UInt8](repeating: 7, count: 8 << 20)
    try Data(content).write(to: URL(fileURLWithPath: original))
    try run("cp", ["--reflink=always", original, copy])
    try system.fill()
    let device = try FileDevice.open(path: copy, access: .readWrite)
    #expect(code { try device.allocate(device.size) } == .noSpace)
    #expect(FileManager.default.contents(atPath: copy) == Data(content))
    try system.makeRoom()
    try device.allocate(device.size)
    #expect(FileManager.default.contents(atPath: copy) == Data(content))
    try system.fill()
    try device.put([UInt8](repeating: 8, count: 8 << 20), at: 0)
    try device.sync()
    device.close()
    #expect(FileManager.default.contents(atPath: original) == Data(content))
  }
}
