import BlockIO
import Foundation
import Primitives
import StorageSimulation

/// A simulated disk that an NVRAM's threads and the test use at once.
final class SharedDisk: BlockDevice, @unchecked Sendable {
  private let disk: SimulatedDisk
  private let lock = NSLock()

  init(_ disk: SimulatedDisk) { self.disk = disk }

  func withDisk<R>(_ body: (SimulatedDisk) throws -> R) rethrows -> R { try lock.withLock { try body(disk) } }

  var name: String { disk.name }
  var size: ByteCount { withDisk { $0.size } }
  var blockSize: Int { disk.blockSize }
  var isWritable: Bool { disk.isWritable }

  func read(at offset: ByteOffset, into destination: consuming MutableSpan<UInt8>) throws(BlockError) {
    lock.lock()
    defer { lock.unlock() }
    try disk.read(at: offset, into: destination)
  }

  func write(_ source: Span<UInt8>, at offset: ByteOffset) throws(BlockError) {
    lock.lock()
    defer { lock.unlock() }
    try disk.write(source, at: offset)
  }

  func sync() throws(BlockError) {
    lock.lock()
    defer { lock.unlock() }
    try disk.sync()
  }
}
