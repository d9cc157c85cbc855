import BlockIO
import Glibc
import Primitives

/// The file or block device that is to become an image.
final class FormatTarget {
  /// More than any image needs; a file may have more at its end.
  static let largest = ByteCount(UInt64(1) << 40)

  let path: String
  let force: Bool
  let grow: Bool
  private var isNew = false

  init(path: String, force: Bool, grow: Bool) {
    self.path = path
    self.force = force
    self.grow = grow
  }

  /// The unit of a power cut for the image's layout: that of the place.
  ///
  /// - Throws: what the device throws that is there and can't be taken.
  func blockSize() throws -> Int {
    do { return try FileDevice.open(path: path, access: .readOnly).blockSize } catch {
      guard error.code == .notFound else { throw error }
      return FileDevice.blockSize(ofNewFileAt: path)
    }
  }

  /// Opens it for writing, with room for `size` bytes. Nothing that is there has been overwritten.
  ///
  /// - Throws: `.refused` where something is there that isn't zeros; `.noSpace` where it is too small, naming the size.
  func open(size: ByteCount) throws -> FileDevice {
    do {
      let device = try FileDevice.create(path: path, size: size, replacing: false)
      isNew = true
      return device
    } catch {
      guard error.code == .exists else { throw error }
    }
    let device = try FileDevice.open(path: path, access: .readWrite)
    if !force { try refuseContent(of: device, upTo: size) }
    if device.size < size {
      guard grow || device.size.value == 0 else {
        throw Failure(
          .noSpace,
          "\(path): has \(device.size.value) bytes, and the image needs \(size.value) bytes; say --grow, or give it a larger "
            + "file or device", fields: [("size", .unsigned(device.size.value)), ("needed", .unsigned(size.value))])
      }
      try device.grow(to: size)
    }
    return device
  }

  /// Removes a file that `open` made: formatting it failed, and half an image is of no use.
  func remove() {
    if isNew { _ = unsafe unlink(path) }
  }

  /// Only what would be overwritten is looked at.
  private func refuseContent(of device: FileDevice, upTo size: ByteCount) throws {
    var window = ByteBuffer(count: 1 << 20)
    let end = min(device.size.value, size.value)
    var offset: UInt64 = 0
    while offset < end {
      let count = Int(min(UInt64(window.count), end - offset))
      try device.read(at: ByteOffset(offset), into: window.mutableSpan(0..<count))
      guard window.span(0..<count).isZero else {
        throw Failure(
          .refused,
          "\(path): is not empty; formatting destroys what is in it for good, and takes --force")
      }
      offset += UInt64(count)
    }
  }
}
