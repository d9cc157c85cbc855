import BlockIO
import Glibc
import Primitives

/// A block device in memory: an image as the fuzzer would have it. It may claim to be larger than what it holds, which
/// reads as zeros then and can't be written; it can fail at the n-th operation.
final class MemoryDevice: BlockDevice {
  private var memory: Memory
  private let claimed: UInt64
  let isWritable: Bool
  let blockSize: Int
  /// Reads, writes and syncs until one fails; nil: none does.
  private var untilFailure: Int?
  /// Called after each sync with all that is there.
  var afterSync: (([UInt8]) -> Void)?

  /// - Parameter claimed: the size in bytes; the bytes' own where it is less.
  init(
    _ bytes: [UInt8], claimed: UInt64 = 0, isWritable: Bool = false, blockSize: Int = 4096, failingAfter: Int? = nil
  ) {
    memory = Memory(bytes: bytes)
    self.claimed = max(claimed, UInt64(bytes.count))
    self.isWritable = isWritable
    self.blockSize = blockSize
    untilFailure = failingAfter
  }

  var name: String { "image" }
  var size: ByteCount { ByteCount(claimed) }
  var bytes: [UInt8] { memory.bytes }

  func read(at offset: ByteOffset, into destination: consuming MutableSpan<UInt8>) throws(BlockError) {
    try mayFail()
    guard offset.value <= claimed, UInt64(destination.count) <= claimed - offset.value else {
      throw BlockError(.truncated, device: name, "reading past the end")
    }
    destination.fill(0)
    memory.get(offset.value, &destination)
  }

  func write(_ source: Span<UInt8>, at offset: ByteOffset) throws(BlockError) {
    try mayFail()
    require(isWritable, "an image that was opened for reading is written to")
    guard offset.value <= UInt64(memory.bytes.count), source.count <= memory.bytes.count - Int(offset.value) else {
      throw BlockError(.noSpace, device: name, "writing past the end")
    }
    memory.put(source, at: Int(offset.value))
  }

  func sync() throws(BlockError) {
    try mayFail()
    afterSync?(memory.bytes)
  }

  private func mayFail() throws(BlockError) {
    guard let left = untilFailure else { return }
    if left == 0 { throw BlockError(.inputOutput(errno: EIO), device: name, "injected") }
    untilFailure = left - 1
  }
}

/// Apart, since a class can't lend spans of what it stores.
private struct Memory {
  var bytes: [UInt8]

  func get(_ offset: UInt64, _ destination: inout MutableSpan<UInt8>) {
    guard offset < UInt64(bytes.count) else { return }
    let start = Int(offset)
    destination.copy(from: bytes.span.extracting(start..<min(bytes.count, start + destination.count)))
  }

  mutating func put(_ source: Span<UInt8>, at offset: Int) {
    var all = bytes.mutableSpan
    all.copy(from: source, at: offset)
  }
}
