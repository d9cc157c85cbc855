import BlockIO
import Primitives
import SecureVolume

/// What kind of image a device holds.
enum ImageKind {
  /// Its encrypted store.
  ///
  /// - Throws: `.refused` for a plain image (FORMAT §9), which is never taken for an encrypted one.
  static func sealed(_ device: any BlockDevice, for purpose: SealedVolume.Purpose = .use) throws -> SealedVolume {
    if purpose == .salvage { return try SealedVolume(device, for: .salvage) }
    guard try !looksPlain(device) else {
      throw Failure(
        .refused,
        "\(device.name): is not encrypted but a plain stream, and nothing in it is protected; say --plaintext to "
          + "read it nevertheless, or import it into an encrypted image with `vnvram import-stream`")
    }
    return try SealedVolume(device)
  }

  /// Whether it begins as the plain form does: with a SEQUENCE.
  static func looksPlain(_ device: any BlockDevice) throws -> Bool {
    guard device.size.value > 0 else { return false }
    var first = ByteBuffer(count: 1)
    try device.read(at: ByteOffset(0), into: first.mutableSpan)
    return first.span[0] == 0x30
  }
}
