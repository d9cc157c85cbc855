import Foundation

/// XFS on a loop device, mounted in a folder of its own; all of it is gone with this object.
public final class LargeBlockFileSystem {
  public static let isPermitted = isPermitted(sector: 512, block: 4096)
  /// From Linux 6.12 on for the file system, 6.14 for the loop device.
  public static let isPermittedLarge = isPermitted(sector: 16384, block: 16384)

  /// Where it is mounted.
  public let path: String
  public let loop: LoopDevice
  private let folder: String

  /// - Parameters:
  ///   - sector: the device's logical and physical block, in bytes.
  ///   - block: the file system's.
  public init(sector: Int, block: Int) throws {
    folder = NSTemporaryDirectory() + "vnvram-xfs-\(UUID().uuidString.prefix(8).lowercased())"
    path = folder + "/mnt"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    do {
      // mkfs.xfs takes no less than 300 MB; next to nothing of it is written.
      try Self.run(["truncate", "--size", "320M", folder + "/disk"], in: folder)
      loop = try LoopDevice(attaching: folder + "/disk", options: sector > 512 ? ["--sector-size", "\(sector)"] : [])
    } catch {
      try? FileManager.default.removeItem(atPath: folder)
      throw error
    }
    let sectors = sector > 512 ? ["-s", "size=\(sector)"] : []
    try Self.run(["mkfs.xfs", "-q", "-K", "-b", "size=\(block)"] + sectors + [loop.path], in: folder)
    try Self.run(["mount", "-t", "xfs", loop.path, path], in: folder)
  }

  deinit {
    _ = try? Self.run(["umount", path], in: folder)
    try? FileManager.default.removeItem(atPath: folder)
  }

  /// Leaves nothing that fallocate(1) could still get.
  public func fill() throws {
    let fill = """
      touch "$1"
      for size in 64M 16M 4M 1M 256K 64K 16K 4K; do
        while fallocate --offset $(stat -c %s "$1") --length $size "$1" 2>/dev/null; do :; done
      done
      sync -f "$1"
      """
    try Self.run(["bash", "-c", fill, "fill", path + "/fill"], in: folder)
  }

  /// At once: what a removed file had is given back later, in the background.
  public func makeRoom() throws {
    try Self.run(["truncate", "-s", "0", path + "/fill"], in: folder)
    try Self.run(["sync", "-f", path], in: folder)
  }

  private static func run(_ arguments: [String], in folder: String) throws {
    let path = "/usr/sbin:/sbin:" + (ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin")
    let outcome = try Child(arguments, in: folder, merged: true, environment: ["PATH": path]).outcome()
    try TestFailure.unless(outcome.status == 0, "\(arguments): \(outcome.text)")
  }

  private static func isPermitted(sector: Int, block: Int) -> Bool {
    (try? LargeBlockFileSystem(sector: sector, block: block)) != nil
  }
}
