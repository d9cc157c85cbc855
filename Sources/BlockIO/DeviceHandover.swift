import CSystem
import Glibc
import Primitives

/// An open, locked and allocated file or block device on its way to another process, by its descriptor: what the other
/// one has to know, which may not be able to ask. The lock goes with the descriptor and is there until the last copy of
/// it is closed.
public struct DeviceHandover: Sendable, Equatable {
  /// For messages: the path.
  public let name: String
  public let isBlockDevice: Bool
  /// Bytes.
  public let size: UInt64
  /// Bytes.
  public let blockSize: UInt32

  public init(name: String, isBlockDevice: Bool, size: UInt64, blockSize: UInt32) {
    self.name = name
    self.isBlockDevice = isBlockDevice
    self.size = size
    self.blockSize = blockSize
  }
}

extension FileDevice {
  public var handover: DeviceHandover {
    DeviceHandover(
      name: name, isBlockDevice: kind == .block, size: size.value, blockSize: UInt32(clamping: blockSize))
  }

  /// Lends the descriptor, to be sent to another process.
  public func withDescriptor<R>(_ body: (Int32) -> R) -> R { body(descriptor) }

  /// Lets go of a device that another process has by now: without giving up its lock, which is that one's.
  public func abandon() { closeDescriptor() }

  /// Takes what another process has opened for writing, locked and allocated; the descriptor is this object's from now
  /// on.
  ///
  /// - Throws: `.wrongKind` for a descriptor that isn't what `handover` says.
  public convenience init(adopting raw: Int32, _ handover: DeviceHandover) throws(BlockError) {
    let descriptor = Descriptor(owning: raw)
    var status = stat()
    let expected = handover.isBlockDevice ? S_IFBLK : S_IFREG
    let isWhole =
      unsafe csystem_fstat(raw, &status) == 0 && status.st_mode & S_IFMT == expected
      && handover.size <= UInt64(Int64.max)
      && (handover.isBlockDevice || UInt64(max(0, status.st_size)) == handover.size)
    guard isWhole else {
      throw BlockError(.wrongKind, device: handover.name, "isn't what was opened any more; start the server anew")
    }
    self.init(
      path: handover.name, kind: handover.isBlockDevice ? .block : .regular, access: .readWrite,
      size: ByteCount(handover.size), unit: TearingUnit(bytes: Int(handover.blockSize), notices: []), hook: nil,
      descriptor: descriptor)
    isAllocated = true
  }

  /// The same file once more, for reading and without a lock, for who hands this one over.
  ///
  /// - Throws: `.inUse` where the path leads to another file by now.
  public func reader() throws(BlockError) -> FileDevice {
    let reader = try FileDevice.openUnlocked(path: name)
    var (own, other) = (stat(), stat())
    let isSame =
      withDescriptor { unsafe csystem_fstat($0, &own) } == 0
      && reader.withDescriptor { unsafe csystem_fstat($0, &other) } == 0
    guard isSame, own.st_dev == other.st_dev, own.st_ino == other.st_ino else {
      throw BlockError(.inUse, device: name, "was replaced by another file while it was being opened; try again")
    }
    return reader
  }
}
