import BlockIO
import Crypto
import Primitives

/// A block device as the volume uses it: errors carry the store's name, and after a failed write or sync it takes no
/// more writes (FORMAT §7; DESIGN P4), since nothing is known then of what lies on the disk.
struct Medium {
  let device: any BlockDevice
  private(set) var failure: VolumeError?
  /// How often it was synced: what was written when this was lower is durable.
  private(set) var syncs: UInt64 = 0

  init(_ device: any BlockDevice) { self.device = device }

  var name: String { device.name }

  func read(at offset: UInt64, into buffer: inout ByteBuffer, _ range: Range<Int>) throws(VolumeError) {
    do { try device.read(at: ByteOffset(offset), into: buffer.mutableSpan(range)) } catch {
      throw VolumeError(error, store: name)
    }
  }

  /// Fills all of `buffer` with what the device has, as far as a cache of this host lets through.
  func readPastCache(at offset: UInt64, into buffer: inout ByteBuffer) throws(VolumeError) {
    do { try device.readPastCache(at: ByteOffset(offset), into: buffer.mutableSpan) } catch {
      throw VolumeError(error, store: name)
    }
  }

  mutating func write(_ source: borrowing ByteBuffer, _ range: Range<Int>, at offset: UInt64) throws(VolumeError) {
    try mayWrite()
    do { try device.write(source.span(range), at: ByteOffset(offset)) } catch { throw fail(error) }
  }

  /// Makes the image's space its own, so that writing in it never runs out: a sparse copy is made whole, or refused.
  func allocate(_ length: ByteCount) throws(VolumeError) {
    if Mutant.skipAllocation.isOn { return }
    do { try device.allocate(length) } catch { throw VolumeError(error, store: name) }
  }

  mutating func sync() throws(VolumeError) {
    try mayWrite()
    do { try device.sync() } catch {
      if !(Mutant.retryFailedSync.isOn && (try? device.sync()) != nil) { throw fail(error) }
    }
    syncs += 1
  }

  /// Throws where the image was opened for reading, or something failed before.
  func mayWrite() throws(VolumeError) {
    guard device.isWritable else {
      throw VolumeError(.readOnly, store: name, "opened for reading only")
    }
    if let failure {
      if failure.code == .anotherWriter { throw failure }
      throw VolumeError(
        .failedEarlier, store: name,
        "takes no more writes since something failed (\(failure.detail)); close and open it again, which recovers all that was acknowledged"
      )
    }
  }

  /// Ends writing for good, where something was begun that only opening anew can bring to an end.
  mutating func giveUp(_ error: VolumeError) { failure = failure ?? error }

  private mutating func fail(_ error: BlockError) -> VolumeError {
    let error = VolumeError(error, store: name)
    giveUp(error)
    return error
  }
}
