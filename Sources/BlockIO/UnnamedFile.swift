import CSystem
import Glibc
import Primitives

// Files that have no name until they are whole (open(2), O_TMPFILE): whatever ends the process, nothing of them is
// left.
extension FileDevice {
  /// Makes a file of `size` zero bytes without a name, on the file system where `path` is to be; readable by its owner
  /// alone, opened for writing, and locked.
  ///
  /// - Returns: `nil` where the file system has no such files, or /proc isn't there, through which they get their name.
  /// - Throws: `.noSpace` and others of the directory.
  public static func createUnnamed(for path: String, size: ByteCount) throws(BlockError) -> FileDevice? {
    try FileStatus.check(path)
    guard unsafe access("/proc/self/fd", X_OK) == 0 else { return nil }
    let raw = unsafe csystem_open_unnamed(directory(of: path))
    guard raw >= 0 else {
      // EISDIR: a kernel that knows no O_TMPFILE opens the directory.
      guard errno != EOPNOTSUPP, errno != EISDIR, errno != EINVAL else { return nil }
      throw BlockError(errno: errno, device: path, "making it")
    }
    let descriptor = Descriptor(owning: raw)
    try descriptor.lock(.readWrite, path: path)
    let device = FileDevice(
      path: path, kind: .regular, access: .readWrite, size: .zero,
      unit: try TearingUnit(of: descriptor.raw, .regular, path: path), hook: nil, descriptor: descriptor)
    try device.resize(to: size)
    return device
  }

  /// Gives a file without a name this one, durably. The file itself has been synced.
  ///
  /// - Throws: `.exists` where something has the name.
  public func link(as path: String) throws(BlockError) {
    try FileStatus.check(path)
    guard unsafe csystem_link_descriptor("/proc/self/fd/\(descriptor)", path) == 0 else {
      guard errno != EEXIST else {
        throw BlockError(.exists, device: path, "exists already; name another file, or say that it is to be replaced")
      }
      throw BlockError(errno: errno, device: path, "giving it its name")
    }
    try Self.syncDirectory(containing: path)
  }

  /// Sets its permissions, whatever the umask.
  public func setMode(_ mode: mode_t) throws(BlockError) {
    guard fchmod(descriptor, mode) == 0 else { throw BlockError(errno: errno, device: name, "setting its mode") }
  }

  /// Gives it the owner and mode of another file.
  public func inherit(from other: stat) throws(BlockError) {
    // The owner first: changing it takes bits off the mode.
    guard fchown(descriptor, other.st_uid, other.st_gid) == 0, fchmod(descriptor, other.st_mode & 0o7777) == 0
    else { throw BlockError(errno: errno, device: name, "giving it the owner and mode of the file it replaces") }
  }
}
