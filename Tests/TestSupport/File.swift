import Foundation

/// Files of tests, whole.
public enum File {
  public static func bytes(_ path: String) throws -> [UInt8] {
    [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
  }

  public static func write(_ bytes: [UInt8], to path: String) throws {
    try Data(bytes).write(to: URL(fileURLWithPath: path))
  }

  public static func exists(_ path: String) -> Bool { FileManager.default.fileExists(atPath: path) }
}
