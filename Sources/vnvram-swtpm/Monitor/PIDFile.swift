import Glibc
import Primitives
import ProgramIO
import SwtpmFormat
import VTPM

/// `--pid`: a file with the server's process number and a newline, written when the sockets listen and before the
/// process gives up its rights.
///
/// Invariant: a file that is named is there whole or not at all: it is written under another name in the same folder,
/// unless somebody has made it, empty, for the server to fill. In the end it is removed, if it still is the one that
/// was written; one that came as a descriptor is who opened it's to remove.
struct PIDFile {
  private enum Place {
    case file(String)
    case descriptor(Int32)
  }

  private var place: Place
  /// The file, once it was written.
  private var descriptor: Int32 = -1

  /// Parses `file=FILE|fd=N`.
  init(parsing text: String) throws(TPMError) {
    var list = try KeyValueList<TPMError>(text, option: OptionName.pid.rawValue)
    let file = try list.value("file")
    let descriptor = try list.number("fd", UInt32(0)...UInt32(Int32.max))
    switch (file, descriptor) {
    case (let file?, nil):
      guard !file.isEmpty, !file.utf8.contains(0) else { throw .usage("--pid: the file's path is empty") }
      place = .file(file)
    case (nil, let descriptor?):
      var status = stat()
      guard unsafe fstat(Int32(descriptor), &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
        throw .usage("--pid: descriptor \(descriptor) is not one of a file")
      }
      place = .descriptor(Int32(descriptor))
    default: throw .usage("--pid: say file= or fd=")
    }
    try list.finish()
  }

  /// The folder that the file is removed from in the end.
  var folder: String? {
    guard case .file(let path) = place else { return nil }
    return Path.folder(of: path)
  }

  /// Writes it, in place of an older one. Everybody may read it, as a process number is no secret.
  ///
  /// - Parameter user: who the server goes on as, where that is another one.
  /// - Throws: what is no regular file is not written to, and a symbolic link not followed; a file that is named is an
  ///   old PID file, or empty, or it stays as it is: this may be root, before it becomes another user.
  mutating func write(for user: uid_t?) throws(FileError) {
    switch place {
    case .file(let path):
      place = .file(Path.absolute(path))
      descriptor = try Self.write(path, user)
    case .descriptor(let number):
      let name = "descriptor \(number)"
      // A daemon's standard streams lead nowhere.
      descriptor = number > 2 ? number : fcntl(number, F_DUPFD_CLOEXEC, 3)
      guard descriptor >= 0, ftruncate(descriptor, 0) == 0 else {
        throw FileError(errno: errno, file: name, "emptying it")
      }
      try Self.fill(descriptor, name)
    }
  }

  private static func fill(_ descriptor: Int32, _ name: String) throws(FileError) {
    try OutputFile(descriptor: descriptor, name: name).write("\(getpid())\n")
  }

  /// From fcntl.h, which shows it to GNU sources only: `O_PATH`.
  private static let pathOnly: Int32 = 0x20_0000

  /// Everything happens in the folder that the path leads to now. Returns the file.
  private static func write(_ path: String, _ user: uid_t?) throws(FileError) -> Int32 {
    let folder = unsafe open(Path.folder(of: path), pathOnly | O_DIRECTORY | O_CLOEXEC)
    guard folder >= 0 else { throw FileError(errno: errno, file: path, "making the PID file") }
    defer { close(folder) }
    let name = path.split(separator: "/", omittingEmptySubsequences: false).last.map(String.init) ?? path
    let old = try openOld(folder, name, path)
    // Somebody made it for this server and waits until that very file isn't empty any more: swtpm_setup has it open.
    if let old, isEmpty(old) { return try rewrite(old, path, user) }
    let temporary = ".vnvram-swtpm-\(getpid()).pid"
    let flags = O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC
    // One that is there is left of a server that was killed, and had the same number.
    _ = unsafe unlinkat(folder, temporary, 0)
    let new = unsafe openat(folder, temporary, flags, 0o600)
    guard new >= 0 else {
      guard let old else { throw FileError(errno: errno, file: path, "making the PID file") }
      // Somebody made it for a server that may make nothing in that folder.
      return try rewrite(old, path, user)
    }
    var isDone = false
    defer {
      if let old { close(old) }
      _ = unsafe unlinkat(folder, temporary, 0)
      if !isDone { close(new) }
    }
    guard fchmod(new, 0o644) == 0 else { throw FileError(errno: errno, file: path, "making the PID file") }
    try fill(new, path)
    guard place(folder, temporary, name, replacing: old != nil) else {
      throw FileError(errno: errno, file: path, "making the PID file")
    }
    isDone = true
    return new
  }

  /// Gives it its name. What came there meanwhile isn't replaced.
  private static func place(_ folder: Int32, _ temporary: String, _ name: String, replacing: Bool) -> Bool {
    if !replacing {
      if unsafe linkat(folder, temporary, folder, name, 0) == 0 { return true }
      // A file system without links.
      guard errno == EPERM || errno == EOPNOTSUPP || errno == EMLINK else { return false }
    }
    return unsafe renameat(folder, temporary, folder, name) == 0
  }

  /// The old PID file that has the name; nil where nothing has.
  private static func openOld(_ folder: Int32, _ name: String, _ path: String) throws(FileError) -> Int32? {
    let flags = O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY
    let old = unsafe openat(folder, name, flags)
    guard old >= 0 else {
      if errno == ENOENT { return nil }
      throw FileError(errno: errno, file: path, "making the PID file")
    }
    var isGood = false
    defer { if !isGood { close(old) } }
    var status = stat()
    guard unsafe fstat(old, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
      throw FileError(EINVAL, file: path, detail: "is no regular file, as a PID file must be")
    }
    guard isOld(old, status) else { throw foreign(path) }
    isGood = true
    return old
  }

  private static func foreign(_ path: String) -> FileError {
    FileError(EEXIST, file: path, detail: "is there, and isn't an old PID file; remove it, or name another with --pid")
  }

  /// Writes over what the file has, which so is never empty. Who owns it can change the number at any time, and with
  /// that whom somebody ends who reads it: that must be nobody else than root or this server's user.
  private static func rewrite(_ old: Int32, _ path: String, _ user: uid_t?) throws(FileError) -> Int32 {
    do throws(FileError) {
      var status = stat()
      guard unsafe fstat(old, &status) == 0, [0, geteuid(), user].contains(status.st_uid) else { throw foreign(path) }
      try fill(old, path)
    } catch {
      close(old)
      throw error
    }
    _ = ftruncate(old, off_t("\(getpid())\n".utf8.count))
    _ = fchmod(old, 0o644)
    return old
  }

  private static func isEmpty(_ descriptor: Int32) -> Bool {
    var status = stat()
    return unsafe fstat(descriptor, &status) == 0 && status.st_size == 0
  }

  /// Whether it has nothing but a process number, and no other name.
  private static func isOld(_ descriptor: Int32, _ status: stat) -> Bool {
    guard status.st_nlink <= 1, status.st_size <= 20 else { return false }
    var bytes = [UInt8](repeating: 0, count: Int(status.st_size))
    guard unsafe pread(descriptor, &bytes, bytes.count, 0) == bytes.count else { return false }
    if bytes.last == UInt8(ascii: "\n") { bytes.removeLast() }
    return bytes.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
  }

  /// Removes it, if it was written and is named. What can't be removed any more (as another user, `--runas`) stays.
  func remove() {
    guard descriptor >= 0 else { return }
    defer { close(descriptor) }
    guard case .file(let path) = place else { return }
    var (own, found) = (stat(), stat())
    guard unsafe fstat(descriptor, &own) == 0, unsafe lstat(path, &found) == 0, own.st_dev == found.st_dev,
      own.st_ino == found.st_ino
    else { return }
    _ = unsafe unlink(path)
  }
}
