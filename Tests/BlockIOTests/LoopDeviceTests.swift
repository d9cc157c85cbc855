import Foundation
import Primitives
import Testing

@testable import BlockIO

@Suite(.serialized, .enabled(if: Permitted.loopDevices, "losetup(8) is not permitted here"))
struct LoopDeviceTests {
  let scratch: Scratch

  init() throws { scratch = try Scratch() }

  private func openingFails(_ path: String, _ access: FileDevice.Access) -> Bool {
    code { try FileDevice.open(path: path, access: access) } == .inUse
  }

  @Test func contentAndSize() throws {
    let loop = try LoopDevice(backing: scratch.file("disk"), size: 1 << 20)
    let device = try FileDevice.open(path: loop.path, access: .readWrite)
    #expect(device.size == ByteCount(1 << 20))
    // Its own blocks have 512 bytes; pages are written.
    #expect(device.blockSize == max(4096, sysconf(Int32(_SC_PAGESIZE))))
    let bytes = [UInt8](repeating: 3, count: 8192)
    try device.put(bytes, at: (1 << 20) - 8192)
    try device.sync()
    #expect(code { try device.put(bytes, at: (1 << 20) - 8191) } == .noSpace)
    #expect(code { try device.bytes(1 << 20, 1) } == .truncated)
    device.close()
    #expect(FileManager.default.contents(atPath: scratch.file("disk"))?.suffix(8192) == Data(bytes))
    _ = consume loop
  }

  /// Two hosts with one device: what the other has written is read past what was cached here.
  @Test func anotherHost() throws {
    let backing = scratch.file("disk")
    let loop = try LoopDevice(backing: backing, size: 4 << 20)
    let second = try LoopDevice(over: backing)
    let (here, there) = (
      try FileDevice.open(path: loop.path, access: .readWrite),
      try FileDevice.open(path: second.path, access: .readWrite)
    )
    for offset in stride(from: UInt64(0), to: 4 << 20, by: 65536) {
      // All of it, so that the kernel reads ahead and caches large pieces.
      _ = try here.bytes(0, 4 << 20)
      let new = [UInt8](repeating: UInt8(offset >> 16) + 1, count: 4096)
      try there.put(new, at: offset)
      try there.sync()
      let isCached = try here.bytes(offset, 4096) != new
      #expect(isCached, "at \(offset)")
      var bytes = [UInt8](repeating: 0, count: 4096)
      try here.readPastCache(at: ByteOffset(offset), into: bytes.mutableSpan)
      #expect(difference(bytes, new) == nil, "at \(offset)")
    }
    var bytes: [UInt8] = [0]
    #expect(code { try here.readPastCache(at: ByteOffset(4 << 20), into: bytes.mutableSpan) } == .truncated)
    here.close()
    there.close()
    _ = (consume loop, consume second)
  }

  @Test func locks() throws {
    let loop = try LoopDevice(backing: scratch.file("disk"), size: 65536)
    let reader = try FileDevice.open(path: loop.path, access: .readOnly)
    let other = try FileDevice.open(path: loop.path, access: .readOnly)
    #expect(openingFails(loop.path, .readWrite))
    reader.close()
    other.close()
    let writer = try FileDevice.open(path: loop.path, access: .readWrite)
    #expect(openingFails(loop.path, .readWrite))
    #expect(openingFails(loop.path, .readOnly))
    // As mount(8) would.
    let raw = unsafe Glibc.open(loop.path, O_RDWR | O_EXCL | O_CLOEXEC)
    let reason = errno
    #expect(raw == -1 && reason == EBUSY)
    writer.close()
    _ = consume loop
  }

  @Test func claimedByTheKernel() throws {
    let loop = try LoopDevice(backing: scratch.file("disk"), size: 65536)
    let raw = unsafe Glibc.open(loop.path, O_RDWR | O_EXCL | O_CLOEXEC)
    #expect(raw >= 0)
    #expect(openingFails(loop.path, .readWrite))
    // Reading is what backups do of a device in use.
    #expect(!openingFails(loop.path, .readOnly))
    Glibc.close(raw)
    #expect(!openingFails(loop.path, .readWrite))
    _ = consume loop
  }

  @Test func creatingAndGrowing() throws {
    let backing = scratch.file("disk")
    let loop = try LoopDevice(backing: backing, size: 65536)
    func create(_ size: UInt64, replacing: Bool) -> BlockError.Code? {
      code {
        let device = try FileDevice.create(path: loop.path, size: ByteCount(size), replacing: replacing)
        #expect(device.size == ByteCount(65536))
      }
    }
    #expect(create(4096, replacing: false) == .exists)
    #expect(create(65537, replacing: true) == .noSpace)
    #expect(create(65536, replacing: true) == nil)
    #expect(create(4096, replacing: true) == nil)

    let device = try FileDevice.open(path: loop.path, access: .readWrite)
    #expect(code { try device.grow(to: ByteCount(131072)) } == .noSpace)
    try run("truncate", ["-s", "131072", backing])
    try run("losetup", ["--set-capacity", loop.path])
    try device.grow(to: ByteCount(131072))
    #expect(device.size == ByteCount(131072))
    device.close()
  }

  @Test func readOnlyDevice() throws {
    let loop = try LoopDevice(backing: scratch.file("disk"), size: 65536, options: ["--read-only"])
    let refusal = code { try FileDevice.open(path: loop.path, access: .readWrite) }
    // Some drivers refuse to be opened, others only to be written.
    #expect(refusal == .permissionDenied || refusal == .readOnly)
    let replacing = code { try FileDevice.create(path: loop.path, size: ByteCount(1), replacing: true) }
    #expect(replacing == refusal)
    let device = try FileDevice.open(path: loop.path, access: .readOnly)
    #expect(device.size == ByteCount(65536))
    device.close()
    _ = consume loop
  }
}
