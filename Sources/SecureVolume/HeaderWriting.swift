import Crypto
import Primitives

// Writing headers: one copy after the other, each durable before the next, in the order that lets a reader tell every
// power cut from tampering (FORMAT §2).
extension Header {
  /// Which copy is written first.
  var copyOrder: [Int] { isClean ? [0, 1] : [1, 0] }

  /// The bytes of one copy with its MAC.
  func sealed(copy: Int, with structure: inout StructureMAC) throws(CryptoError) -> ByteBuffer {
    var bytes = encode(copy: copy)
    try structure.startInput(.header)
    try structure.update(bytes, 0..<Format.headerMACOffset)
    let mac = try structure.finish()
    bytes.store(mac, at: Format.headerMACOffset)
    return bytes
  }
}

extension SecureVolume {
  /// Gives both copies new content; durable on return.
  func writeHeaders(_ next: Header) throws(VolumeError) {
    for copy in next.copyOrder.prefix(Mutant.skipSecondHeaderCopy.isOn ? 1 : 2) { try writeHeader(next, copy: copy) }
    header = next
  }

  /// Writes one copy; durable on return.
  func writeHeader(_ next: Header, copy: Int) throws(VolumeError) {
    try putHeader(next, copy: copy)
    try medium.sync()
  }

  /// Writes one copy; not durable yet.
  func putHeader(_ next: Header, copy: Int) throws(VolumeError) {
    let bytes: ByteBuffer
    do { bytes = try next.sealed(copy: copy, with: &keys.structure) } catch { throw VolumeError(error, store: name) }
    try medium.write(bytes, 0..<bytes.count, at: Format.copyOffsets[copy])
  }
}
