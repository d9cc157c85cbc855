import Foundation
import Primitives
import StorageSimulation
import Testing

@testable import BlockIO

@Suite struct TransferTests {
  let scratch: Scratch

  init() throws { scratch = try Scratch() }

  private func device(_ size: UInt64, hook: SystemCallHook? = nil) throws -> FileDevice {
    let device = try FileDevice.create(path: scratch.file("a"), size: ByteCount(size), replacing: false)
    device.hook = hook
    return device
  }

  @Test func whatIsWrittenIsRead() throws {
    let device = try device(300_000)
    var generator = SeededGenerator(seed: 1)
    var expected = [UInt8](repeating: 0, count: 300_000)
    for _ in 0..<30 {
      let count = Int.random(in: 0...50_000, using: &generator)
      let offset = Int.random(in: 0...(300_000 - count), using: &generator)
      let bytes = generator.bytes(count)
      expected.replaceSubrange(offset..<offset + count, with: bytes)
      try device.put(bytes, at: UInt64(offset))
    }
    try device.sync()
    let all = try device.bytes(0, 300_000)
    #expect(difference(all, expected) == nil)
    device.close()
    #expect(FileManager.default.contents(atPath: scratch.file("a")) == Data(expected))
  }

  static let pastTheEnd: [(UInt64, Int)] = [
    (100, 1), (99, 2), (0, 101), (101, 0), (1 << 63 - 1, 1), (1 << 63, 1), (.max, 1), (.max, 0), (.max - 1, 2),
  ]

  @Test(arguments: pastTheEnd) func outsideTheDevice(offset: UInt64, count: Int) throws {
    let device = try device(100)
    let bytes = [UInt8](repeating: 1, count: count)
    #expect(code { try device.bytes(offset, count) } == .truncated)
    #expect(code { try device.put(bytes, at: offset) } == .noSpace)
    #expect(device.size == ByteCount(100))
    let content = try device.bytes(0, 100)
    #expect(content.allSatisfy { $0 == 0 })
  }

  @Test func nothingAtTheEnd() throws {
    let device = try device(100)
    let bytes = try device.bytes(100, 0)
    #expect(bytes == [])
    try device.put([], at: 100)
  }

  /// Whatever pieces the kernel makes of a transfer, and however often it is interrupted.
  @Test(arguments: 0..<20) func shortAndInterrupted(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let device = try device(20_000) { call in
      guard call == .read || call == .write else { return nil }
      switch Int.random(in: 0..<3, using: &generator) {
      case 0: return .fails(EINTR)
      case 1: return .short(Int.random(in: 1...3000, using: &generator))
      default: return nil
      }
    }
    var source = SeededGenerator(seed: seed)
    let bytes = source.bytes(19_000)
    try device.put(bytes, at: 500)
    let back = try device.bytes(500, 19_000)
    #expect(difference(back, bytes) == nil)
    device.hook = nil
    let edges = try device.bytes(0, 500) + device.bytes(19_500, 500)
    #expect(edges.allSatisfy { $0 == 0 })
  }

  static let errors: [(Int32, BlockError.Code)] = [
    (ENOSPC, .noSpace), (EDQUOT, .noSpace), (EFBIG, .noSpace), (EIO, .inputOutput(errno: EIO)), (EROFS, .readOnly),
    (EPERM, .permissionDenied),
  ]

  @Test(arguments: errors) func errorsAreToldApart(errno: Int32, expected: BlockError.Code) throws {
    let device = try device(100) { _ in .fails(errno) }
    #expect(code { try device.put([1], at: 0) } == expected)
    #expect(code { try device.bytes(0, 1) } == expected)
    #expect(code { try device.sync() } == expected)
    device.hook = nil
    let byte = try device.bytes(0, 1)
    #expect(byte == [0])
  }

  @Test func errorAfterAPart() throws {
    var calls = 0
    let device = try device(10_000) { _ in
      calls += 1
      return calls == 1 ? .short(4096) : .fails(EIO)
    }
    let bytes = [UInt8](repeating: 5, count: 8192)
    #expect(code { try device.put(bytes, at: 0) } == .inputOutput(errno: EIO))
    #expect(calls == 2)
  }

  /// A second attempt would succeed and say nothing.
  @Test func interruptedSyncIsAnError() throws {
    var calls = 0
    let device = try device(100) { _ in
      calls += 1
      return .fails(EINTR)
    }
    #expect(code { try device.sync() } == .inputOutput(errno: EINTR))
    #expect(calls == 1)
  }

  @Test func fileShortenedBehindOurBack() throws {
    let device = try device(10_000)
    try run("truncate", ["-s", "5000", scratch.file("a")])
    #expect(code { try device.bytes(4_000, 2_000) } == .truncated)
    let rest = try device.bytes(4_000, 1_000)
    #expect(rest.count == 1_000)
  }
}
