import BlockIO
import Glibc
import Primitives

/// An image that is made beside its place without a name, readable by its owner alone, and gets its name only once it is
/// whole: so nobody ever finds half of one, whatever ends the program, and what was there stays until then. Where the file
/// system has no files without a name it has another name until then, and is removed where it doesn't come to that.
final class NewFile {
  let path: String
  let device: FileDevice
  private let temporary: String
  /// Whether there is something under `temporary`.
  private var isNamed: Bool

  /// Makes a file of zeros.
  ///
  /// - Throws: `.noSpace` and others of the directory.
  init(at path: String, size: ByteCount) throws(BlockError) {
    self.path = path
    temporary = "\(path).\(getpid()).tmp"
    if let unnamed = try FileDevice.createUnnamed(for: path, size: size) {
      (device, isNamed) = (unnamed, false)
    } else {
      (device, isNamed) = (try FileDevice.create(path: temporary, size: size, replacing: false), true)
    }
  }

  deinit {
    device.close()
    if isNamed { _ = unsafe unlink(temporary) }
  }

  /// Gives it its name; durable on return.
  ///
  /// - Parameter replacing: take the place of what has the name.
  /// - Throws: `.exists`; `.inUse` where something else has its temporary name by now.
  func place(replacing: Bool) throws(BlockError) {
    if !isNamed {
      guard replacing else { return try device.link(as: path) }
      // A link replaces nothing; a name can.
      try device.link(as: temporary)
      isNamed = true
    }
    guard device.hasName(temporary) else {
      // That name is somebody else's now, and not to be removed.
      isNamed = false
      throw BlockError(.inUse, device: temporary, "was replaced or removed by something else; try again")
    }
    try FileDevice.rename(temporary, to: path, replacing: replacing)
    isNamed = false
  }

  /// Gives it the owner and mode of the file whose place it takes.
  func inherit(from old: stat) throws(BlockError) { try device.inherit(from: old) }

  /// Refuses to replace an image by a copy of itself.
  static func requireOther(_ path: String, than image: String) throws {
    var (a, b) = (stat(), stat())
    guard unsafe stat(path, &a) == 0, unsafe stat(image, &b) == 0, a.st_dev == b.st_dev, a.st_ino == b.st_ino else {
      return
    }
    throw Failure(.refused, "\(path): is the same file as \(image); name another")
  }

  /// Refuses a name that is taken, before any work is done. What is no regular file is never replaced.
  static func requireFree(_ path: String, force: Bool) throws {
    var status = stat()
    guard unsafe stat(path, &status) == 0 else { return }
    guard status.st_mode & S_IFMT == S_IFREG else {
      throw Failure(.refused, "\(path): is there, and is no regular file; name a file")
    }
    guard force else {
      throw Failure(.refused, "\(path): exists already; name another file, or replace it with --force")
    }
  }
}
