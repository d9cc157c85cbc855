import CSystem
import Glibc
import Primitives

/// What the kernel says about an open file or a path: its kind, its size.
enum FileStatus {
  enum Kind: Equatable {
    case regular
    case block
  }

  /// A NUL would end the path early for the kernel, and name another file.
  static func check(_ path: String) throws(BlockError) {
    guard !path.isEmpty, !path.utf8.contains(0) else {
      throw BlockError(.notFound, device: path, "is no path: it is empty or contains a NUL")
    }
  }

  static func kind(_ status: stat, path: String) throws(BlockError) -> Kind {
    switch status.st_mode & S_IFMT {
    case S_IFREG: return .regular
    case S_IFBLK: return .block
    case S_IFDIR: throw wrongKind("a directory", path)
    case S_IFCHR: throw wrongKind("a character device", path)
    case S_IFIFO: throw wrongKind("a FIFO", path)
    case S_IFSOCK: throw wrongKind("a socket", path)
    default: throw wrongKind("of a kind unknown here", path)
    }
  }

  private static func wrongKind(_ what: String, _ path: String) -> BlockError {
    BlockError(.wrongKind, device: path, "is \(what); an image lies in a regular file or on a block device")
  }

  /// At most `off_t.max`.
  static func size(_ descriptor: Int32, _ kind: Kind, path: String) throws(BlockError) -> ByteCount {
    var bytes: UInt64 = 0
    switch kind {
    case .block:
      guard unsafe csystem_block_device_size(descriptor, &bytes) == 0 else {
        throw BlockError(errno: errno, device: path, "asking for its size")
      }
    case .regular:
      var status = stat()
      guard unsafe csystem_fstat(descriptor, &status) == 0 else {
        throw BlockError(errno: errno, device: path, "asking for its size")
      }
      bytes = UInt64(max(0, status.st_size))
    }
    return ByteCount(min(bytes, UInt64(off_t.max)))
  }

  /// Whether a block device refuses writes: some drivers let it be opened for writing all the same.
  static func isReadOnly(_ descriptor: Int32, path: String) throws(BlockError) -> Bool {
    var readOnly: Int32 = 0
    guard unsafe csystem_block_device_read_only(descriptor, &readOnly) == 0 else {
      throw BlockError(errno: errno, device: path, "asking whether it is read-only")
    }
    return readOnly != 0
  }
}
