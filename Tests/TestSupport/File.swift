import Foundation

/// Files of tests, whole. (Foundation reads and updates no block device.)
public enum File {
  public static func bytes(_ path: String) throws -> [UInt8] {
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw POSIXError(POSIXErrorCode(rawValue: errno) ?? .EIO) }
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 20)
    while true {
      let count = unsafe read(descriptor, &chunk, chunk.count)
      guard count >= 0 else { throw POSIXError(POSIXErrorCode(rawValue: errno) ?? .EIO) }
      guard count > 0 else { return bytes }
      bytes += chunk[..<count]
    }
  }

  /// Writes into what is there, and syncs.
  public static func overwrite(_ path: String, _ bytes: [UInt8], at offset: Int = 0) throws {
    let descriptor = unsafe open(path, O_WRONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw POSIXError(POSIXErrorCode(rawValue: errno) ?? .EIO) }
    defer { close(descriptor) }
    let isWritten =
      unsafe pwrite(descriptor, bytes, bytes.count, off_t(offset)) == bytes.count && fsync(descriptor) == 0
    guard isWritten else { throw POSIXError(POSIXErrorCode(rawValue: errno) ?? .EIO) }
  }

  public static func write(_ bytes: [UInt8], to path: String) throws {
    try Data(bytes).write(to: URL(fileURLWithPath: path))
  }

  public static func exists(_ path: String) -> Bool { FileManager.default.fileExists(atPath: path) }
}
