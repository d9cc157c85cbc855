import Primitives

/// What the blob store sees: numbered sectors with one write operation. It says nothing of keys.
///
/// A volume is single-threaded: its owner sees to it that calls don't overlap.
public protocol SectorVolume: AnyObject {
  /// The store's name in messages: the image's path.
  var name: String { get }
  /// Bytes in a sector: a power of two from 4096 to 65536.
  var sectorSize: Int { get }
  /// How many sectors there are.
  var sectorCount: UInt64 { get }
  /// Bytes there are: fewer than the sectors have where the last one is there in part only, as in a plain file.
  var byteCount: ByteCount { get }
  /// False where the image was opened for reading only; then `commit` throws.
  var isWritable: Bool { get }

  /// Reads as many whole sectors as `plaintext` holds, from `sector` on, verified and decrypted.
  func read(_ sector: SectorIndex, into plaintext: consuming MutableSpan<UInt8>) throws(VolumeError)

  /// Writes all of `changes` or nothing; durable on return. After an error the volume takes no more writes.
  func commit(_ changes: borrowing SectorChanges) throws(VolumeError)
}

extension SectorVolume {
  public var byteCount: ByteCount { ByteCount(sectorCount * UInt64(sectorSize)) }
}
