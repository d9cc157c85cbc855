import Glibc

/// Why a file or a folder isn't one's own: somebody else has put it there, or may change it. One rule for all that
/// decides over keys: anchors, files of options, the record of uses. Oneself and root are trusted, and nobody else.
///
/// Of a file, ask with what fstat(2) says of the open one; of a path's folders from the root down, so that nobody can
/// replace what was looked at (`FolderTrust`).
public enum FileDistrust: Error, Equatable, Sendable {
  case symbolicLink
  /// A FIFO, a device, a folder.
  case noRegularFile
  /// By its number.
  case foreignOwner(UInt32)
  /// Its group, or everyone.
  case writableByOthers

  /// Throws unless it is a regular file of one's own, or root's, that nobody else may write to.
  public static func check(file status: stat) throws(FileDistrust) {
    guard status.st_mode & S_IFMT != S_IFLNK else { throw .symbolicLink }
    guard status.st_mode & S_IFMT == S_IFREG else { throw .noRegularFile }
    try check(ownerOf: status)
    guard status.st_mode & 0o022 == 0 else { throw .writableByOthers }
  }

  /// Throws unless only oneself and root can take away or replace what lies in this folder and is theirs. In one with
  /// the sticky bit, as /tmp, nobody else can.
  ///
  /// - Parameters:
  ///   - groupMayWrite: whether the group that its owner gave it counts as trusted.
  ///   - trusted: one more user who is.
  public static func check(folder status: stat, groupMayWrite: Bool, trusted: uid_t) throws(FileDistrust) {
    try check(ownerOf: status, trusted: trusted)
    let others: mode_t = groupMayWrite ? 0o002 : 0o022
    guard status.st_mode & others == 0 || status.st_mode & 0o1000 != 0 else { throw .writableByOthers }
  }

  public static func check(ownerOf status: stat, trusted: uid_t = 0) throws(FileDistrust) {
    guard [0, geteuid(), trusted].contains(status.st_uid) else { throw .foreignOwner(status.st_uid) }
  }
}
