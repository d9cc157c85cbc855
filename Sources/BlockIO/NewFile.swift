import Glibc
import Primitives

/// A file, an image, that is made beside its place without a name, readable by its owner alone, and gets its name only
/// once it is whole: so nobody ever finds half of one, whatever ends the program, and what was there stays until then.
/// Where the file system has no files without a name it has another name until then, and is removed where it doesn't
/// come to that.
public final class NewFile {
  public let path: String
  public let device: FileDevice
  private let temporary: String
  /// Whether it may have the name `temporary`.
  private var isNamed: Bool

  /// Makes a file of zeros.
  ///
  /// - Throws: `.noSpace` and others of the directory.
  public init(at path: String, size: ByteCount) throws(BlockError) {
    self.path = path
    temporary = "\(path).\(getpid()).tmp"
    if let unnamed = try FileDevice.createUnnamed(for: path, size: size) {
      (device, isNamed) = (unnamed, false)
    } else {
      (device, isNamed) = (try FileDevice.create(path: temporary, size: size, replacing: false), true)
    }
  }

  /// Whether anything has the name, a symbolic link that leads nowhere, too.
  ///
  /// - Throws: where that can't be told.
  public static func isTaken(_ path: String) throws(BlockError) -> Bool {
    var status = stat()
    if unsafe lstat(path, &status) == 0 { return true }
    guard errno == ENOENT || errno == ENOTDIR else {
      throw BlockError(errno: errno, device: path, "looking whether it is there")
    }
    return false
  }

  deinit {
    // What else has that name by now stays.
    if isNamed, device.hasName(temporary) { _ = unsafe unlink(temporary) }
    device.close()
  }

  /// Gives it its name; durable on return.
  ///
  /// - Parameter replacing: take the place of what has the name.
  /// - Throws: `.exists`; `.inUse` where something else has its temporary name by now.
  public func place(replacing: Bool) throws(BlockError) {
    if !isNamed {
      guard replacing else { return try device.link(as: path) }
      // A link replaces nothing; a name can.
      // Before: where only the directory can't be synced it has the name, and there is an error.
      isNamed = true
      try device.link(as: temporary)
    }
    guard device.hasName(temporary) else {
      // That name is somebody else's now, and not to be removed.
      isNamed = false
      throw BlockError(.inUse, device: temporary, "was replaced or removed by something else; try again")
    }
    try FileDevice.rename(temporary, to: path, replacing: replacing)
    isNamed = false
  }

  /// Takes its name away again, which it has by `place` and which replaced nothing, if it still is this file's.
  public func withdraw() {
    if device.hasName(path) { _ = unsafe unlink(path) }
  }

  /// Gives it other permissions than its owner's alone.
  public func setMode(_ mode: mode_t) throws(BlockError) { try device.setMode(mode) }

  /// Gives it the owner and mode of the file whose place it takes.
  public func inherit(from old: stat) throws(BlockError) { try device.inherit(from: old) }
}
