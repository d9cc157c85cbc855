import BlockIO
import Primitives

/// An image with a saved header (FORMAT §13) over its own: what would be if it were put back. Reading gives the saved
/// copies until they are written to, and all else from the image; writing goes to the image.
public final class HeaderOverlay: BlockDevice {
  /// Bytes of a saved header: both copies in their places, from the image's start.
  public static let size = Int(Format.headerPlace) + Format.headerSize

  private let image: any BlockDevice
  private let saved: ByteBuffer
  /// By header copy: written since, so that the image has it.
  private var isWritten = [false, false]

  /// `saved` has `size` bytes.
  public init(_ image: any BlockDevice, saved: consuming ByteBuffer) {
    precondition(saved.count == Self.size)
    self.image = image
    self.saved = saved
  }

  /// The same bytes over another view of the image, as if nothing had been written yet.
  public func over(_ image: any BlockDevice) -> HeaderOverlay {
    var bytes = ByteBuffer(count: Self.size)
    bytes.copy(from: saved)
    return HeaderOverlay(image, saved: bytes)
  }

  public var name: String { image.name }
  public var size: ByteCount { image.size }
  public var blockSize: Int { image.blockSize }
  public var isWritable: Bool { image.isWritable }

  public func read(at offset: ByteOffset, into destination: consuming MutableSpan<UInt8>) throws(BlockError) {
    for (index, start) in Format.copyOffsets.enumerated() where !isWritten[index] {
      let end = start + UInt64(Format.headerSize)
      guard offset.value >= start, offset.value + UInt64(destination.count) <= end else { continue }
      return Self.copy(saved, Int(offset.value), into: destination)
    }
    try image.read(at: offset, into: destination)
  }

  private static func copy(
    _ saved: borrowing ByteBuffer, _ offset: Int, into destination: consuming MutableSpan<UInt8>
  ) {
    destination.copy(from: saved.span(offset..<offset + destination.count))
  }

  public func write(_ source: Span<UInt8>, at offset: ByteOffset) throws(BlockError) {
    try image.write(source, at: offset)
    if let index = Format.copyOffsets.firstIndex(of: offset.value) { isWritten[index] = true }
  }

  public func sync() throws(BlockError) { try image.sync() }
  public func allocate(_ length: ByteCount) throws(BlockError) { try image.allocate(length) }
  public func close() { image.close() }
}

extension SecureVolume {
  /// Both header copies, in the form that `HeaderOverlay` takes: all that opens an image beside its sectors, wrapped
  /// keys and all.
  public func savedHeader() throws(VolumeError) -> ByteBuffer {
    var saved = ByteBuffer(count: HeaderOverlay.size)
    for (index, offset) in Format.copyOffsets.enumerated() {
      let bytes: ByteBuffer
      do { bytes = try header.sealed(copy: index, with: &keys.structure) } catch {
        throw VolumeError(error, store: name)
      }
      saved.copy(from: bytes.span(0..<Format.headerSize), at: Int(offset))
    }
    return saved
  }
}
