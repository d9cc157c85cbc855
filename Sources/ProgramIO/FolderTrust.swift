import Glibc
import Primitives

/// Whether others than oneself and root can say what a path leads to, as sshd's StrictModes asks of a user's keys.
///
/// Every folder and symbolic link from the root on must be one's own or root's. The last folder may be writable by
/// nobody else, unless it has the sticky bit, as /tmp; those above by nobody but their group, which who owns them chose
/// (Ubuntu's /var/log is its syslog group's, homes are often their users' own group's): it could move the last folder
/// away with what is in it, as who rotates logs does, but not change or forge that.
///
/// Who owns the root can replace everything, so that user counts as root: in a user namespace without root's own
/// number, all that is root's seems to belong to one who isn't known there.
///
/// Looked at from the root down: what was found to be beyond others' reach can't be replaced by them afterwards.
public enum FolderTrust {
  public struct Refusal: Error, Equatable {
    /// The folder or link that others have a say in.
    public let path: String
    public let reason: FileDistrust
  }

  /// As many links as the kernel follows.
  private static let maximumLinks = 40

  /// Throws where others have a say. What can't be looked at, or isn't there, is for who opens it to find out.
  ///
  /// - Parameter folder: from the root.
  public static func check(_ folder: String) throws(Refusal) {
    var status = stat()
    var path = "/"
    guard unsafe lstat(path, &status) == 0 else { return }
    let ruler = status.st_uid
    var rest = Array(folder.split(separator: "/").reversed())
    var links = 0
    while let name = rest.popLast() {
      try check(path, status, ruler, isLast: false)
      if name == "." { continue }
      // The path has no links any more, so what is above it is what its name says.
      let next = name == ".." ? Path.folder(of: path) : (path == "/" ? "/" : path + "/") + name
      guard unsafe lstat(next, &status) == 0 else { return }
      guard status.st_mode & S_IFMT == S_IFLNK else {
        path = next
        continue
      }
      do { try FileDistrust.check(ownerOf: status, trusted: ruler) } catch { throw Refusal(path: next, reason: error) }
      links += 1
      guard links <= maximumLinks, let target = target(of: next) else { return }
      if target.hasPrefix("/") { path = "/" }
      rest += target.split(separator: "/").reversed()
      guard unsafe lstat(path, &status) == 0 else { return }
    }
    try check(path, status, ruler, isLast: true)
  }

  private static func check(_ path: String, _ status: stat, _ ruler: uid_t, isLast: Bool) throws(Refusal) {
    guard status.st_mode & S_IFMT == S_IFDIR else { return }
    do { try FileDistrust.check(folder: status, groupMayWrite: !isLast, trusted: ruler) } catch {
      throw Refusal(path: path, reason: error)
    }
  }

  private static func target(of link: String) -> String? {
    unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: 4096) { buffer in
      guard let base = buffer.baseAddress else { return nil }
      let count = unsafe readlink(link, base, buffer.count)
      guard count > 0, count < buffer.count else { return nil }
      return unsafe String(decoding: buffer.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
  }
}
