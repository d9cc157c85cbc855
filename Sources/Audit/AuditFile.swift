// The file that records are appended to: nobody but oneself and root has a say in where it is and what is in it.
//
// Invariants: records are one write(2) of whole lines in append mode, so that lines of several processes don't mix; it
// is on disk when `append` returns; a line that a power cut or a full disk left unfinished is ended before the next one
// begins, so that it spoils no other. The file is opened anew for each record: whoever rotates logs need not tell us.
// It is a regular file with one name, of one's own or root's, that nobody else may write to, and so are the folders
// above it (`FolderTrust`): what was planted in its place isn't written to, and what was written isn't lost to who
// planted it.
import Glibc
import Primitives
import ProgramIO

struct AuditFile {
  /// From the root.
  let path: String
  /// As it was named, for messages.
  let name: String

  /// Appends whole lines, and makes the file and the folders above it where there are none. Durable on return.
  func append(_ lines: [UInt8]) throws(AuditError) {
    guard !path.isEmpty, !path.utf8.contains(0) else {
      throw AuditError(.cannotOpen(errno: EINVAL), log: "audit log", "its path is empty or not a path")
    }
    let (descriptor, size) = try open()
    defer { close(descriptor) }
    var last: UInt8 = 0x0A
    if size > 0 { guard unsafe pread(descriptor, &last, 1, size - 1) == 1 else { throw cannotOpen() } }
    try writeAll(last == 0x0A ? lines : [0x0A] + lines, descriptor)
    guard fdatasync(descriptor) == 0 else { throw cannotWrite("syncing it") }
    if size == 0 { try syncFolder() }
  }

  /// The last folder for another user alone, who is to write there, by root. Nothing of one that is there is changed.
  /// Failures show when the file is opened.
  func makeFolder(for user: uid_t, _ group: gid_t) {
    let above = Path.folder(of: folder)
    guard (try? FolderTrust.check(Path.folder(of: above))) != nil else { return }
    Self.make(above)
    guard (try? FolderTrust.check(above)) != nil, unsafe mkdir(folder, 0o700) == 0 else { return }
    _ = unsafe lchown(folder, user, group)
  }

  private static func make(_ folder: String) {
    guard unsafe mkdir(folder, 0o700) == 0, folder == AuditDestination.systemFolder, geteuid() == 0 else { return }
    // Whatever the umask: other users' records are in it, too.
    _ = unsafe chmod(folder, 0o755)
  }

  /// For the owner alone, and not where others have a say. Failures show when the file is opened.
  func makeFolders() {
    guard (try? FolderTrust.check(folder)) != nil else { return }
    var end = path.startIndex
    while let slash = path[end...].dropFirst().firstIndex(of: "/") {
      Self.make(String(path[..<slash]))
      end = slash
    }
  }

  var folder: String { Path.folder(of: path) }

  // MARK: Opening

  private func open() throws(AuditError) -> (descriptor: Int32, size: Int) {
    try checkFolder()
    var status = stat()
    if unsafe lstat(path, &status) != 0 {
      if errno == ENOENT {
        makeFolders()
        try checkFolder()
      }
    } else {
      // Before it is opened: opening alone makes some devices do something.
      try check(status)
    }
    // Reading is needed to see the last byte.
    let flags = O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | O_NOFOLLOW
    let descriptor = unsafe Glibc.open(path, flags, 0o600)
    guard descriptor >= 0 else { throw cannotOpen() }
    var isGood = false
    defer { if !isGood { close(descriptor) } }
    guard unsafe fstat(descriptor, &status) == 0 else { throw cannotOpen() }
    try check(status)
    isGood = true
    return (descriptor, Int(status.st_size))
  }

  private func checkFolder() throws(AuditError) {
    do { try FolderTrust.check(folder) } catch {
      let what =
        switch error.reason {
        case .foreignOwner(let user): "belongs to user \(user)"
        default: "may be written by others than its owner"
        }
      throw refused(
        "\(error.path) \(what), who could put another file in the place of the record of key uses, or take it away; "
          + "change that (chown, chmod go-w) or name another place")
    }
  }

  private func check(_ status: stat) throws(AuditError) {
    do { try FileDistrust.check(file: status) } catch {
      switch error {
      case .symbolicLink:
        throw refused("is a symbolic link, and the record of key uses is written through none; name the file itself")
      case .noRegularFile: throw refused("is no regular file, as the record of key uses must be; name another place")
      case .foreignOwner(let user):
        throw refused(
          "belongs to user \(user), who could change the record of key uses; chown it or name another place")
      case .writableByOthers:
        throw refused("may be written by others than its owner, and the record of key uses must not be; chmod go-w it")
      }
    }
    guard status.st_nlink <= 1 else {
      throw refused(
        "has another name (a hard link), so that it may be another file, and the record of key uses isn't written to "
          + "it; remove one name, or name another place")
    }
  }

  // MARK: Writing

  private func writeAll(_ bytes: [UInt8], _ descriptor: Int32) throws(AuditError) {
    var done = 0
    while done < bytes.count {
      let count = unsafe bytes.withUnsafeBytes { buffer in
        unsafe write(descriptor, buffer.baseAddress.map { unsafe $0 + done }, bytes.count - done)
      }
      if count > 0 {
        done += count
      } else if count == 0 || errno != EINTR {
        throw cannotWrite("writing it")
      }
    }
  }

  /// A new file's name is durable only when its directory is.
  private func syncFolder() throws(AuditError) {
    let descriptor = unsafe Glibc.open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { return }  // Of a directory that may be searched and not read nothing can be synced.
    defer { close(descriptor) }
    guard fsync(descriptor) == 0 || errno == EINVAL else { throw cannotWrite("syncing its directory") }
  }

  // MARK: Errors

  private func refused(_ reason: String) -> AuditError {
    AuditError(.notTrusted, log: name, "\(reason); without it no key is used")
  }

  private func cannotOpen() -> AuditError {
    let code = errno
    return AuditError(
      .cannotOpen(errno: code), log: name,
      "the record of key uses can't be opened (\(AuditError.words(code))), and without it no key is used; "
        + "make the place writable or name another")
  }

  private func cannotWrite(_ operation: String) -> AuditError {
    let code = errno
    return AuditError(
      .cannotWrite(errno: code), log: name,
      "the record of key uses can't be written (\(operation): \(AuditError.words(code))), and without it no key is "
        + "used; make room or name another place")
  }
}
