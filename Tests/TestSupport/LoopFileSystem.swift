import Foundation

/// A real ext4 on a loop device over a file of a test's own, mounted in the test's folder and unmounted with this
/// object. After an error it makes itself read-only for all, for open files too: that is what a failing disk leads to,
/// and the one way for a file system to become so in the middle of work (`mount -o remount,ro` is refused while a file
/// is open for writing).
public final class LoopFileSystem {
  /// Whether this machine lets tests mount one; found by trying.
  public static let isPermitted: Bool = {
    let folder = NSTemporaryDirectory() + "vnvram-mount-\(UUID().uuidString.prefix(8))"
    defer { try? FileManager.default.removeItem(atPath: folder) }
    guard (try? FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)) != nil else {
      return false
    }
    return (try? LoopFileSystem(in: folder, megabytes: 4)) != nil
  }()

  /// Where it is mounted.
  public let path: String
  private let file: String
  private let folder: String
  private var isMounted = false

  public init(in folder: String, megabytes: Int) throws {
    self.folder = folder
    file = folder + "/disk"
    path = folder + "/mnt"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    try run("truncate", "--size", "\(megabytes)M", file)
    // Nothing kept back for root, so that the last byte is really the last.
    try run("mkfs.ext4", "-q", "-F", "-m", "0", file)
    try mount()
  }

  deinit { try? unmount() }

  @discardableResult
  private func run(_ arguments: String...) throws -> Child.Outcome {
    let path = "/usr/sbin:/sbin:" + (ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin")
    let outcome = try Child(arguments, in: folder, merged: true, environment: ["PATH": path]).outcome()
    try TestFailure.unless(outcome.status == 0, "\(arguments): \(outcome.text)")
    return outcome
  }

  public func mount() throws {
    try run("mount", "-o", "loop,errors=remount-ro", file, path)
    isMounted = true
  }

  public func unmount() throws {
    guard isMounted else { return }
    try run("umount", path)
    isMounted = false
  }

  /// Writes a file until not one more byte fits.
  public func fill() throws {
    let descriptor = unsafe open(path + "/fill", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
    try TestFailure.unless(descriptor >= 0, "can't fill \(path)")
    defer { close(descriptor) }
    var size = 1 << 20
    let zeros = [UInt8](repeating: 0x55, count: size)
    while size > 0 {
      let written = unsafe write(descriptor, zeros, size)
      if written < 0 { size /= 2 }
    }
    fsync(descriptor)
  }

  public func makeRoom() throws { try FileManager.default.removeItem(atPath: path + "/fill") }

  /// Has the kernel meet an error in this file system: it is read-only from now on.
  public func failReadOnly() throws {
    let device = try run("findmnt", "--noheadings", "--output", "SOURCE", path).text
      .trimmingCharacters(in: .whitespacesAndNewlines)
    let trigger = "/sys/fs/ext4/\((device as NSString).lastPathComponent)/trigger_fs_error"
    try run("bash", "-c", "echo test > \(trigger)")
  }

  /// What an administrator does after such an error.
  public func repair() throws {
    try unmount()
    // 0: nothing was wrong; 1: it was mended.
    try run("bash", "-c", "e2fsck -f -y \(file); test $? -le 1")
    try mount()
  }
}
