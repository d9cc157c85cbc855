import BlockIO
import Primitives

/// What a file or a device holds where an image is looked for, as its first bytes tell: an image has a place that
/// swtpm's states may have, too. Nothing is verified, and nobody relies on it but for refusing.
public enum ImageBeginning: Sendable, Equatable {
  /// No byte at all.
  case empty
  /// It begins with zeros, and no more is known.
  case zeros
  /// An image, of a version that may not be known here; or the second header of one, behind what is nobody's.
  case image
  /// An image whose first eight bytes are zeros, and whose second header is there: so swtpm_setup deletes what lies on
  /// a device.
  case wipedImage
  /// A file of swtpm's state directory.
  case swtpmState
  /// swtpm's single file, of its backend `file://`.
  case swtpmFile
  case unknown

  /// How many bytes tell it, of those that there are.
  private static let size = 32

  /// Reads the beginning of a device, and where that tells nothing the second header's.
  public init(_ device: any BlockDevice) throws(BlockError) {
    var bytes = ByteBuffer(count: Int(min(UInt64(Self.size), device.size.value)))
    try device.read(at: ByteOffset(0), into: bytes.mutableSpan)
    self.init(bytes.span(0..<bytes.count))
    let (second, count) = (Format.copyOffsets[1], Format.headerMagic.count)
    guard self == .zeros || self == .unknown, device.size.value >= second + UInt64(count) else { return }
    var magic = ByteBuffer(count: count)
    try device.read(at: ByteOffset(second), into: magic.mutableSpan)
    if magic.span.equals(Format.headerMagic) { self = self == .zeros ? .wipedImage : .image }
  }

  /// - Parameter bytes: the first ones, or all.
  public init(_ bytes: Span<UInt8>) {
    if bytes.count == 0 {
      self = .empty
    } else if Self.has(Format.headerMagic, bytes, at: 0) || Self.has(Format.ownMagic, bytes, at: 0) {
      // The second is version 1's.
      self = .image
    } else if Self.has(Self.swtpmFileMagic, bytes, at: 0), bytes.count > 8 {
      self = .swtpmFile
    } else if Self.isContainer(bytes) {
      self = .swtpmState
    } else {
      self = bytes.extracting(first: min(8, bytes.count)).isZero ? .zeros : .unknown
    }
  }

  /// "nilmptws": our images begin so, too, and go on with a version that swtpm refuses.
  private static let swtpmFileMagic = Array(Format.foreignMagic.prefix(8))

  /// Big-endian: version 1 or 2, least version, size of the header.
  private static func isContainer(_ bytes: Span<UInt8>) -> Bool {
    bytes.count >= 4 && (1...2).contains(bytes[0]) && (1...bytes[0]).contains(bytes[1]) && bytes[2] == 0
      && bytes[3] == 10
  }

  private static func has(_ magic: [UInt8], _ bytes: Span<UInt8>, at offset: Int) -> Bool {
    bytes.count >= offset + magic.count && bytes.extracting(offset..<offset + magic.count).equals(magic)
  }
}
