import Primitives

extension SecureVolume {
  /// Brings everything in place and overwrites the ring with zeros, so that what was deleted or replaced is gone from
  /// every logical address of the image; durable on return. What copy-on-write, thin provisioning and flash keep below
  /// that is out of reach (DESIGN P7).
  public func scrub() throws(VolumeError) {
    // After this the ring holds nothing that counts, so that zeros in it are no damage.
    try settle { _ in }
    let zeros = ByteBuffer(count: 65536)
    var offset = geometry.ringOffset
    while offset < geometry.leafOffset {
      let size = Int(min(65536, geometry.leafOffset - offset))
      try medium.write(zeros, 0..<size, at: offset)
      offset += UInt64(size)
    }
    try medium.sync()
  }
}
