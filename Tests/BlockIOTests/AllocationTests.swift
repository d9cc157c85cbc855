import Foundation
import Primitives
import TestSupport
import Testing

@testable import BlockIO

/// A file with holes is made whole at opening, or refused as it is.
@Suite struct AllocationTests {
  let scratch: Scratch

  init() throws { scratch = try Scratch() }

  private static let size = 1 << 20
  /// Data at the beginning, in the middle, and in part of a page near the end.
  private static let data = [0..<65536, 524_288..<589_824, size - 3000..<size - 1000]
  private static let content: [UInt8] = {
    var bytes = [UInt8](repeating: 0, count: size)
    for range in data { bytes.replaceSubrange(range, with: repeatElement(0xA5, count: range.count)) }
    return bytes
  }()

  private func makeSparse(_ path: String) throws {
    try run("truncate", ["-s", "\(Self.size)", path])
    let device = try FileDevice.open(path: path, access: .readWrite)
    for range in Self.data { try device.put(Array(Self.content[range]), at: UInt64(range.lowerBound)) }
    try device.sync()
    device.close()
    try #require(try allocated(path) < Self.size)
  }

  /// Bytes.
  private func allocated(_ path: String) throws -> Int {
    try #require(Int(try run("stat", ["-c", "%b", path]))) * 512
  }

  private func isUnchanged(_ path: String) -> Bool {
    FileManager.default.contents(atPath: path) == Data(Self.content)
  }

  @Test func holesGetSpace() throws {
    let path = scratch.file("a")
    try makeSparse(path)
    let device = try FileDevice.open(path: path, access: .readWrite)
    try device.allocate(device.size)
    try device.allocate(device.size)
    try device.sync()
    #expect(try allocated(path) >= Self.size)
    #expect(isUnchanged(path))
    #expect(device.size == ByteCount(Self.size))
    device.close()
  }

  @Test(.enabled(if: LoopFileSystem.isPermitted, "mount(8) is not permitted here"), arguments: [false, true])
  func fullFileSystem(withoutFallocate: Bool) throws {
    let system = try LoopFileSystem(in: scratch.path, megabytes: 8)
    let path = system.path + "/a"
    try makeSparse(path)
    try system.fill()
    let device = try FileDevice.open(path: path, access: .readWrite)
    if withoutFallocate { device.hook = { $0 == .allocate ? .fails(EOPNOTSUPP) : nil } }
    #expect(code { try device.allocate(device.size) } == .noSpace)
    #expect(isUnchanged(path))
    try system.makeRoom()
    try device.allocate(device.size)
    #expect(isUnchanged(path))
    try system.fill()
    let bytes = [UInt8](repeating: 1, count: Self.size)
    try device.put(bytes, at: 0)
    try device.sync()
    device.close()
    #expect(FileManager.default.contents(atPath: path) == Data(bytes))
  }

  /// Where there is no fallocate(2), holes get zeros, and data is never written over: a power cut would tear it.
  @Test func withoutFallocate() throws {
    let path = scratch.file("a")
    try makeSparse(path)
    let device = try FileDevice.open(path: path, access: .readWrite)
    let count = Counter()
    device.hook = { call in
      if call == .write { count.value += 1 }
      return call == .allocate ? .fails(EOPNOTSUPP) : nil
    }
    try device.allocate(device.size)
    #expect(try allocated(path) >= Self.size)
    #expect(isUnchanged(path))
    // Holes of 448 KiB, and of a page or a few less, 64 KiB at a time.
    #expect(count.value == 14)
    device.close()
  }

  private final class Counter { var value = 0 }

  @Test func whatElseGoesWrong() throws {
    let path = scratch.file("a")
    try makeSparse(path)
    let reader = try FileDevice.open(path: path, access: .readOnly)
    #expect(code { try reader.allocate(reader.size) } == .readOnly)
    reader.close()
    let device = try FileDevice.open(path: path, access: .readWrite)
    device.hook = { $0 == .allocate ? .fails(EIO) : nil }
    #expect(code { try device.allocate(device.size) } == .inputOutput(errno: EIO))
    device.hook = nil
    try device.allocate(device.size)
    device.close()
    let empty = try FileDevice.open(path: scratch.file("empty", holding: []), access: .readWrite)
    try empty.allocate(empty.size)
    #expect(empty.size == .zero)
    empty.close()
  }
}
