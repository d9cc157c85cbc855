import CSystem
import Glibc

/// What tells a file or a block device from another one that has its path later: names of virtual disks are given out
/// again.
public enum DeviceIdentity {
  /// What sysfs says of a block device that stays as it is when the host starts anew, and is no other's; the first that
  /// there is.
  private static let attributes = [
    ("dm", "dm/uuid"), ("wwid", "wwid"), ("wwid", "device/wwid"), ("rbd", "device/image_id"),
    ("loop", "loop/backing_file"),
  ]

  /// One line: `dm LVM-…`, or for a file its number and when it was made. Empty where nothing is known; nil where
  /// nothing is there.
  public static func of(_ path: String) -> String? {
    var status = stat()
    guard unsafe stat(path, &status) == 0 else { return nil }
    guard status.st_mode & S_IFMT == S_IFBLK else { return file(path, status) }
    let major = (status.st_rdev >> 8) & 0xFFF | (status.st_rdev >> 32) & ~0xFFF
    let minor = status.st_rdev & 0xFF | (status.st_rdev >> 12) & ~0xFF
    let folder = "/sys/dev/block/\(major):\(minor)"
    // A partition has what its disk has, but for what device mapper made.
    let partition = line("\(folder)/partition")
    let suffix = partition.map { " partition \($0)" } ?? ""
    for (kind, attribute) in attributes {
      if let value = line("\(folder)/\(partition == nil ? "" : "../")\(attribute)") {
        return "\(kind) \(value)\(suffix)"
      }
    }
    return ""
  }

  /// Whether it is one of a file, which has another one as soon as it is written anew.
  public static func isFile(_ identity: String) -> Bool { identity.hasPrefix("file ") }

  /// Whether it is the device's under each of its paths, and no other's.
  public static func isLasting(_ identity: String) -> Bool { !identity.isEmpty && !isFile(identity) }

  private static func file(_ path: String, _ status: stat) -> String {
    var (seconds, nanoseconds): (Int64, UInt32) = (0, 0)
    let isKnown = unsafe csystem_birth_time(path, &seconds, &nanoseconds) == 0
    return "file \(status.st_ino)" + (isKnown ? " made \(seconds).\(nanoseconds)" : "")
  }

  /// What one of sysfs' files says; nil where it isn't there or says nothing.
  private static func line(_ path: String) -> String? {
    guard let file = try? InputFile(path: path) else { return nil }
    var bytes = [UInt8](repeating: 0, count: 1024)
    guard let count = try? file.read(into: bytes.mutableSpan) else { return nil }
    let text = String(decoding: bytes[..<count].prefix { $0 >= 0x20 && $0 != 0x7F }, as: UTF8.self)
    return text.isEmpty ? nil : text
  }
}
