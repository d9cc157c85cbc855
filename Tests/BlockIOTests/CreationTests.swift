import Foundation
import Primitives
import Testing

@testable import BlockIO

@Suite struct CreationTests {
  let scratch: Scratch

  init() throws { scratch = try Scratch() }

  private func status(_ path: String) -> stat {
    var status = stat()
    #expect(unsafe stat(path, &status) == 0)
    return status
  }

  private func create(_ path: String, _ size: UInt64, replacing: Bool = false) -> BlockError.Code? {
    code { try FileDevice.create(path: path, size: ByteCount(size), replacing: replacing) }
  }

  @Test func newFile() throws {
    let path = scratch.file("a")
    let device = try FileDevice.create(path: path, size: ByteCount(1_000_001), replacing: false)
    #expect(device.size == ByteCount(1_000_001))
    #expect(device.isWritable)
    let bytes = try device.bytes(0, 1_000_001)
    #expect(bytes.allSatisfy { $0 == 0 })
    let made = status(path)
    #expect(made.st_mode & 0o777 == 0o600)
    #expect(made.st_size == 1_000_001)
    #expect(made.st_blocks * 512 >= 1_000_001, "space is not allocated")
  }

  @Test("a file without a name until it is whole") func unnamedFile() throws {
    func names() throws -> [String] { try FileManager.default.contentsOfDirectory(atPath: scratch.path).sorted() }
    let path = scratch.file("a")
    // Not every file system has them; those of Debian's /tmp do.
    let device = try #require(try FileDevice.createUnnamed(for: path, size: ByteCount(100_000)))
    let bytes: [UInt8] = [1, 2, 3]
    try device.write(bytes.span, at: ByteOffset(5))
    try device.sync()
    #expect(try names().isEmpty)
    try device.link(as: path)
    #expect(try names() == ["a"])
    let made = status(path)
    #expect(made.st_mode & 0o777 == 0o600 && made.st_size == 100_000 && made.st_nlink == 1)
    #expect(code { _ = try FileDevice.open(path: path, access: .readOnly) } == .inUse)
    let second = try #require(try FileDevice.createUnnamed(for: path, size: ByteCount(1)))
    #expect(code { try second.link(as: path) } == .exists)
    second.close()
    #expect(try names() == ["a"] && status(path).st_size == 100_000)
    #expect(code { _ = try FileDevice.createUnnamed(for: scratch.file("missing/a"), size: .zero) } == .notFound)
  }

  /// Only what is known not to be there counts as that: an image or a marker that can't be seen may be there.
  @Test func whetherANameIsTaken() throws {
    let file = scratch.file("a", holding: [1])
    #expect(try NewFile.isTaken(file))
    #expect(try !NewFile.isTaken(scratch.file("b")))
    #expect(try !NewFile.isTaken(file + "/b"))
    try FileManager.default.createSymbolicLink(atPath: scratch.file("loop"), withDestinationPath: scratch.file("loop"))
    #expect(try NewFile.isTaken(scratch.file("loop")))
    #expect(code { _ = try NewFile.isTaken(scratch.file("loop/b")) } == .inputOutput(errno: ELOOP))
    #expect(code { _ = try StateMarker(image: scratch.file("loop/b")).isThere } == .inputOutput(errno: ELOOP))
  }

  @Test func emptyFile() throws {
    let device = try FileDevice.create(path: scratch.file("a"), size: .zero, replacing: false)
    #expect(device.size == .zero)
  }

  @Test func directories() throws {
    try FileDevice.syncDirectory(containing: "no-slash")
    try FileDevice.syncDirectory(containing: "/no-directory")
    #expect(code { try FileDevice.syncDirectory(containing: "/missing/a") } == .notFound)
  }

  /// A file system without fallocate(2) gets zeros.
  @Test(arguments: [EOPNOTSUPP, ENOSYS]) func withoutAllocation(errno: Int32) throws {
    let path = scratch.file("a")
    var writes = 0
    let device = try FileDevice.create(path: path, size: ByteCount(200_000), replacing: false) { call in
      if call == .write { writes += 1 }
      return call == .allocate ? .fails(errno) : nil
    }
    #expect(writes > 0)
    #expect(device.size == ByteCount(200_000))
    try device.sync()
    #expect(status(path).st_blocks * 512 >= 200_000)
    try device.put([1, 2, 3], at: 199_997)
    try device.grow(to: ByteCount(300_000))
    let bytes = try device.bytes(199_997, 100_003)
    #expect(difference(bytes, [1, 2, 3] + [UInt8](repeating: 0, count: 100_000)) == nil)
  }

  @Test func interruptedAllocation() throws {
    var interruptions = 3
    let device = try FileDevice.create(path: scratch.file("a"), size: ByteCount(4096), replacing: false) { call in
      guard call == .allocate, interruptions > 0 else { return nil }
      interruptions -= 1
      return .fails(EINTR)
    }
    #expect(device.size == ByteCount(4096))
    #expect(interruptions == 0)
  }

  @Test func existingFile() throws {
    let path = scratch.file("a", holding: [1, 2, 3])
    try run("chmod", ["640", path])
    #expect(create(path, 10) == .exists)
    #expect(FileManager.default.contents(atPath: path) == Data([1, 2, 3]))
    #expect(create(path, 8192, replacing: true) == nil)
    #expect(status(path).st_size == 8192)
    #expect(status(path).st_mode & 0o777 == 0o640)
    #expect(create(path, 100, replacing: true) == nil)
    #expect(status(path).st_size == 100)
  }

  @Test func danglingLink() throws {
    let path = scratch.file("link")
    try FileManager.default.createSymbolicLink(atPath: path, withDestinationPath: scratch.file("missing"))
    #expect(create(path, 10) == .exists)
    #expect(create(path, 10, replacing: true) == .notFound)
  }

  @Test func notAFile() throws {
    #expect(create(scratch.path, 10, replacing: true) == .wrongKind)
    #expect(create("/dev/zero", 10, replacing: true) == .wrongKind)
    #expect(create(scratch.file("missing/a"), 10) == .notFound)
  }

  @Test(arguments: [UInt64.max, UInt64(Int64.max) + 1, UInt64(Int64.max)]) func tooLarge(size: UInt64) throws {
    #expect(create(scratch.file("new"), size) == .noSpace)
    #expect(!FileManager.default.fileExists(atPath: scratch.file("new")))
    let path = scratch.file("a", holding: [1, 2, 3])
    #expect(create(path, size, replacing: true) == .noSpace)
    #expect(FileManager.default.contents(atPath: path) == Data([1, 2, 3]))
  }

  @Test func growing() throws {
    let path = scratch.file("a", holding: [1, 2, 3])
    let device = try FileDevice.open(path: path, access: .readWrite)
    try device.grow(to: ByteCount(100_000))
    #expect(device.size == ByteCount(100_000))
    #expect(status(path).st_blocks * 512 >= 100_000)
    try device.put([9], at: 99_999)
    try device.grow(to: ByteCount(5))
    #expect(device.size == ByteCount(100_000), "growing never shrinks")
    let bytes = try device.bytes(0, 4)
    #expect(bytes == [1, 2, 3, 0])
  }

  @Test func failedGrowthChangesNothing() throws {
    let path = scratch.file("a", holding: [1, 2, 3])
    var writes = 0
    let device = try FileDevice.open(path: path, access: .readWrite) { call in
      switch call {
      case .allocate: return .fails(EOPNOTSUPP)
      case .write:
        writes += 1
        return writes == 3 ? .fails(ENOSPC) : nil
      default: return nil
      }
    }
    #expect(code { try device.grow(to: ByteCount(1_000_000)) } == .noSpace)
    #expect(writes == 3)
    #expect(device.size == ByteCount(3))
    #expect(FileManager.default.contents(atPath: path) == Data([1, 2, 3]))
  }
}
