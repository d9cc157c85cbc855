import Primitives

extension SecureVolume {
  /// Brings everything in place and overwrites the ring and the leaf table that doesn't count with zeros, so that what
  /// was deleted or replaced is gone from every logical address of the image; durable on return. What copy-on-write,
  /// thin provisioning and flash keep below that is out of reach.
  ///
  /// - Throws: `.anchor`, with `isDurable`, where it is scrubbed and only the anchor couldn't be told.
  public func scrub() throws(VolumeError) {
    // After this neither holds anything that counts, so that zeros in it are no damage.
    try settleImage { _ in }
    leaves.distrustOther()
    let table = geometry.leafTableOffset(leaves.other)
    try medium.writeZeros(geometry.ringOffset..<geometry.leafOffset)
    try medium.writeZeros(table..<table + geometry.leafTableSize)
    try medium.sync()
    try tellAnchor(.running, after: "was scrubbed")
  }
}

extension Medium {
  mutating func writeZeros(_ range: Range<UInt64>) throws(VolumeError) {
    let zeros = ByteBuffer(count: Int(min(65536, UInt64(range.count))))
    for offset in stride(from: range.lowerBound, to: range.upperBound, by: zeros.count) {
      try write(zeros, 0..<Int(min(UInt64(zeros.count), range.upperBound - offset)), at: offset)
    }
  }
}
