// What a program's starter left open.
import CSystem
import Glibc

/// The descriptors that a process was started with.
public enum InheritedDescriptors {
  /// Closes all but `kept`: for a program to call first of all, before it opens anything itself. Standard streams are
  /// closed, too, unless they are among `kept`.
  ///
  /// - Throws: where some may be left open.
  public static func closeAll(except kept: [Int32]) throws(ConfinementError) {
    for range in Self.ranges(kept) where csystem_close_range(range.lowerBound, range.upperBound) != 0 {
      // Before Linux 5.9, or where a container's filter doesn't know it.
      return try closeOneByOne(except: kept)
    }
  }

  /// All numbers that aren't among these.
  private static func ranges(_ kept: [Int32]) -> [ClosedRange<UInt32>] {
    var ranges: [ClosedRange<UInt32>] = []
    var next: UInt32 = 0
    for descriptor in Set(kept).sorted().compactMap({ UInt32(exactly: $0) }) {
      if descriptor > next { ranges.append(next...descriptor - 1) }
      next = descriptor + 1
    }
    return ranges + [next...UInt32.max]
  }

  /// For kernels without close_range(2).
  @_spi(Testing) public static func closeOneByOne(except kept: [Int32]) throws(ConfinementError) {
    guard let folder = unsafe opendir("/proc/self/fd") else {
      throw ConfinementError(errno: errno, "closing inherited descriptors")
    }
    defer { unsafe closedir(folder) }
    var found: [Int32] = []
    while let entry = unsafe readdir(folder) {
      let name = unsafe withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
        unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
      guard let descriptor = Int32(name), unsafe descriptor != dirfd(folder) else { continue }
      if !kept.contains(descriptor) { found.append(descriptor) }
    }
    for descriptor in found { _ = Glibc.close(descriptor) }
  }
}
