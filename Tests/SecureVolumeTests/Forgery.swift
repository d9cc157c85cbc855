// What one who has the store key could make of an image: fields at will, with the MACs that go with them.
import BlockIO
import Crypto
import Primitives
import StorageSimulation

@testable import SecureVolume

/// Puts the MAC into the header copy that starts at `copy` that the holder of the store key could make.
func sealHeader(_ bytes: inout [UInt8], _ copy: Int, _ volume: SecureVolume) throws {
  try volume.keys.structure.startInput(.header)
  try volume.keys.structure.update(bytes[copy..<copy + Format.headerMACOffset].span)
  let mac = try volume.keys.structure.finish()
  bytes.replaceSubrange(copy + Format.headerMACOffset..<copy + Format.headerSize, with: mac.array)
}

/// Puts the MAC into the record of `count` sectors that starts at `start`.
func sealRecord(_ bytes: inout [UInt8], _ start: Int, count: Int, _ volume: SecureVolume) throws {
  let end = start + 128 + 40 * count
  try volume.keys.structure.startInput(.record)
  try volume.keys.structure.update(volume.digest)
  try volume.keys.structure.update(bytes[start..<end].span)
  let mac = try volume.keys.structure.finish()
  bytes.replaceSubrange(end..<end + 32, with: mac.array)
}

/// A disk with header copies that say something else than `volume`'s, with the root for it.
func forged(
  _ disk: SimulatedDisk, _ volume: SecureVolume, copies: [Int] = [0, 1], _ change: (inout Header) -> Void
) throws -> SimulatedDisk {
  let forged = SimulatedDisk(copyOf: disk.bytes)
  var header = volume.header
  change(&header)
  header.root = try volume.leaves.seal(
    generation: header.generation, digest: volume.digest, with: &volume.keys.structure)
  for copy in copies {
    let bytes = try header.sealed(copy: copy, with: &volume.keys.structure)
    forged.overwrite(ByteOffset(Format.copyOffsets[copy]), with: bytes.span.array)
  }
  return forged
}

/// The error that something throws.
func thrownError(_ body: () throws -> Void) -> VolumeError? {
  do {
    try body()
    return nil
  } catch { return error as? VolumeError }
}

/// An image that somebody else may be writing: nobody locks it.
final class UnlockedView: BlockDevice {
  let disk: SimulatedDisk
  init(_ disk: SimulatedDisk) { self.disk = disk }

  let name = "unlocked disk"
  var size: ByteCount { disk.size }
  var blockSize: Int { disk.blockSize }
  let isWritable = false
  let mayChange = true

  func read(at offset: ByteOffset, into destination: consuming MutableSpan<UInt8>) throws(BlockError) {
    try disk.read(at: offset, into: destination)
  }
  func write(_ source: Span<UInt8>, at offset: ByteOffset) throws(BlockError) { fatalError("opened for reading") }
  func sync() throws(BlockError) { fatalError("opened for reading") }
}
