import Foundation
import Primitives
import Testing

@testable import BlockIO

@Suite struct NoSpaceTests {
  let scratch: Scratch

  init() throws { scratch = try Scratch() }

  private func create(_ path: String, _ size: UInt64, replacing: Bool) -> BlockError.Code? {
    code { try FileDevice.create(path: path, size: ByteCount(size), replacing: replacing) }
  }

  @Test(.enabled(if: Permitted.mounting, "mount(8) is not permitted here")) func fullFileSystem() throws {
    let fileSystem = try MemoryFileSystem(over: scratch.path, size: "1m")
    let (small, sparse) = (scratch.file("small"), scratch.file("sparse"))
    #expect(create(scratch.file("large"), 2 << 20, replacing: false) == .noSpace)
    #expect(!FileManager.default.fileExists(atPath: scratch.file("large")))

    let device = try FileDevice.create(path: small, size: ByteCount(4096), replacing: false)
    try device.put([1, 2, 3], at: 0)
    #expect(code { try device.grow(to: ByteCount(2 << 20)) } == .noSpace)
    #expect(device.size == ByteCount(4096))
    device.close()
    #expect(create(small, 2 << 20, replacing: true) == .noSpace)
    #expect(FileManager.default.contents(atPath: small) == Data([1, 2, 3]) + Data(count: 4093))

    // A file that somebody made without allocating it.
    try run("truncate", ["-s", "4M", sparse])
    let holes = try FileDevice.open(path: sparse, access: .readWrite)
    let bytes = [UInt8](repeating: 1, count: 2 << 20)
    #expect(code { try holes.put(bytes, at: 0) } == .noSpace)
    holes.close()
    _ = consume fileSystem
  }

  /// All of the allocated space can be written though the file system has no more.
  @Test(.enabled(if: Permitted.mounting, "mount(8) is not permitted here")) func allocatedSpaceIsOurs() throws {
    let fileSystem = try MemoryFileSystem(over: scratch.path, size: "1m")
    let device = try FileDevice.create(path: scratch.file("a"), size: ByteCount(512 << 10), replacing: false)
    #expect(throws: ProgramFailure.self) { try run("dd", ["if=/dev/zero", "of=\(scratch.file("b"))", "bs=64k"]) }
    try device.put([UInt8](repeating: 1, count: 512 << 10), at: 0)
    try device.sync()
    device.close()
    _ = consume fileSystem
  }

  /// A real short write: the first call stops at the limit, the second fails.
  @Test func limitOnFileSizes() async throws {
    await #expect(processExitsWith: .success) { [directory = scratch.path as String] in
      let path = directory + "/a"
      try run("truncate", ["-s", "100000", path])
      signal(SIGXFSZ, SIG_IGN)
      var limit = rlimit(rlim_cur: 50_000, rlim_max: 50_000)
      #expect(unsafe setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit) == 0)
      let device = try FileDevice.open(path: path, access: .readWrite)
      let bytes = [UInt8](repeating: 1, count: 20_000)
      #expect(code { try device.put(bytes, at: 40_000) } == .noSpace)
      let back = try device.bytes(40_000, 20_000)
      #expect(difference(back, [UInt8](repeating: 1, count: 10_000) + [UInt8](repeating: 0, count: 10_000)) == nil)
      try device.put(bytes, at: 30_000)
      let new = directory + "/b"
      #expect(code { try FileDevice.create(path: new, size: ByteCount(100_000), replacing: false) } == .noSpace)
      #expect(!FileManager.default.fileExists(atPath: new))
    }
  }
}
