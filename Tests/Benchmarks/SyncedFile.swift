import Glibc

// What the medium takes, with nothing around it: the least that any store pays that is durable when it answers.

/// A file of 256 KiB that is written round and round, as a journal is, and synced each time.
final class SyncedFile {
  private let descriptor: Int32
  private let path: String
  private let content = [UInt8](repeating: 1, count: 262_144)
  private let piece: Int

  /// - Parameter piece: how many bytes are written at a time.
  init(_ path: String, pieces piece: Int = 8192) {
    self.path = path
    self.piece = piece
    descriptor = unsafe open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
    _ = unsafe content.withUnsafeBytes { unsafe pwrite(descriptor, $0.baseAddress, $0.count, 0) }
    fsync(descriptor)
  }

  deinit {
    close(descriptor)
    _ = unsafe unlink(path)
  }

  func write(_ round: Int) {
    let offset = round % (content.count / piece) * piece
    _ = unsafe content.withUnsafeBytes { unsafe pwrite(descriptor, $0.baseAddress, piece, off_t(offset)) }
    fdatasync(descriptor)
  }
}

/// A state that is written to a temporary file which then takes its place, and all that synced.
final class SyncedDirectory {
  private let path: String
  private let directory: Int32
  private let content: [UInt8]

  init(_ path: String, size: Int) {
    self.path = path
    content = [UInt8](repeating: 1, count: size)
    _ = unsafe mkdir(path, 0o700)
    directory = unsafe open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
  }

  deinit {
    _ = unsafe unlinkat(directory, "state", 0)
    close(directory)
    _ = unsafe rmdir(path)
  }

  func write() {
    let file = unsafe open(path + "/new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    _ = unsafe Glibc.write(file, content, content.count)
    fsync(file)
    close(file)
    _ = unsafe rename(path + "/new", path + "/state")
    fsync(directory)
  }
}
