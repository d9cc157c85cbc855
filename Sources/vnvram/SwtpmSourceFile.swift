import Crypto
import Glibc
import Primitives
import ProgramIO
import SwtpmFormat

/// One of swtpm's files, and what tells that swtpm uses it, or has changed it since it was read.
final class SwtpmSourceFile {
  /// Where it is: `keptPath` once it made way for an image.
  private(set) var path: String
  /// Where it is kept when an image takes its place. No name of a state's, so that nobody takes it for one.
  var keptPath: String { path + ".swtpm" }
  /// Nil for a single file, which has several.
  let kind: SwtpmStateKind?
  let status: stat
  private let descriptor: Int32
  private let isWritable: Bool
  /// Of what was read.
  private var digest: InlineBytes32?

  private init(_ path: String, _ kind: SwtpmStateKind?, _ descriptor: Int32, _ status: stat, isWritable: Bool) {
    (self.path, self.kind, self.descriptor, self.status) = (path, kind, descriptor, status)
    self.isWritable = isWritable
  }

  deinit { close(descriptor) }

  /// Nil where there is none.
  convenience init?(_ path: String, _ kind: SwtpmStateKind?, limit: Int, removing: Bool) throws {
    let flags = O_CLOEXEC | O_NOCTTY | O_NONBLOCK | O_NOFOLLOW | (removing ? O_RDWR : O_RDONLY)
    let descriptor = unsafe Glibc.open(path, flags)
    guard descriptor >= 0 else {
      if errno == ENOENT { return nil }
      guard errno != ELOOP else {
        throw Failure(.notAnImage, "\(path): is a symbolic link; name the place that it leads to")
      }
      guard errno != ENXIO else { throw Self.wrongKind(path) }
      throw FileError(errno: errno, file: path, "opening it")
    }
    var status = stat()
    guard unsafe fstat(descriptor, &status) == 0 else {
      let error = FileError(errno: errno, file: path, "looking at it")
      close(descriptor)
      throw error
    }
    self.init(path, kind, descriptor, Self.withoutCutShort(path, status, removing), isWritable: removing)
    guard status.st_mode & S_IFMT == S_IFREG else { throw Self.wrongKind(path) }
    guard status.st_size <= limit else {
      throw Failure(.noSpace, "\(path): has \(status.st_size) bytes; swtpm's have \(limit) at most")
    }
    guard !removing || self.status.st_nlink == 1 else {
      throw Failure(
        .refused, "\(path): has another name, too (a hard link), and is not overwritten; remove it yourself")
    }
  }

  /// Takes the second name away that an import left which was cut short before its image had the first one.
  private static func withoutCutShort(_ path: String, _ status: stat, _ removing: Bool) -> stat {
    var kept = stat()
    guard removing, status.st_nlink == 2, unsafe lstat(path + ".swtpm", &kept) == 0, kept.st_ino == status.st_ino,
      kept.st_dev == status.st_dev, unsafe unlink(path + ".swtpm") == 0
    else { return status }
    var status = status
    status.st_nlink = 1
    return status
  }

  private static func wrongKind(_ path: String) -> Failure {
    Failure(.notAnImage, "\(path): is no regular file; swtpm's states are in files")
  }

  // MARK: Locks

  private enum Lease {
    static let set: Int32 = 1024  // F_SETLEASE
    static let get: Int32 = 1025  // F_GETLEASE
  }

  /// swtpm 0.7.1 takes no lock on a single file, but has it open for writing, which keeps others from having a lease
  /// (fcntl(2)). It is asked for and given back; whose file it isn't, and who isn't root, doesn't get one.
  ///
  /// - Throws: `.refused` where a file that is to be removed can't have one.
  func lockAgainstSwtpm() throws {
    try SwtpmLock.take(descriptor, of: path)
    if isWritable {
      _ = try takeLease()
    } else if fcntl(descriptor, Lease.set, F_RDLCK) != 0, errno == EAGAIN {
      throw Self.inUse(path)
    }
    _ = fcntl(descriptor, Lease.set, F_UNLCK)
  }

  /// Nobody else has the file open from now on: who opens it waits until this is done with it.
  ///
  /// - Returns: whether it can be told. For a state in a directory, which has a lock of its own, it needn't be.
  private func takeLease() throws(Failure) -> Bool {
    // Tells that somebody waits, and would end this program.
    signal(SIGIO, SIG_IGN)
    guard fcntl(descriptor, Lease.set, F_WRLCK) != 0 else { return true }
    guard errno != EAGAIN else { throw Self.inUse(path) }
    guard kind == nil else { return false }
    let why = unsafe String(cString: strerror(errno))
    throw Failure(
      .refused,
      "\(path): whether a swtpm has it open can't be told (\(why)), so it is not removed; be its owner or root, or leave out "
        + "--remove-source and remove it yourself")
  }

  /// Takes the file's lease, and keeps it; then whether it is what was read, still.
  ///
  /// - Throws: `.inUse`, saying so.
  func checkUnchanged() throws {
    let hasLease = try takeLease()
    var now = stat()
    // A name that leads to another file by now: swtpm makes a new one for each state.
    guard hasItsName, unsafe fstat(descriptor, &now) == 0, now.st_size == status.st_size
    else { throw Self.newer(path) }
    let before = digest
    _ = try read()
    guard let before, digest == before, !hasLease || fcntl(descriptor, Lease.get) == F_WRLCK else {
      throw Self.newer(path)
    }
  }

  static func newer(_ path: String) -> Failure {
    Failure(.inUse, "\(path): changed, or was opened, after it was read")
  }

  private static func inUse(_ path: String) -> Failure { Failure(SwtpmRunsError(place: path)) }

  // MARK: Content

  /// What is in it, in protected memory: it may be in clear.
  func read() throws -> SecretBytes {
    let count = Int(status.st_size)
    var bytes = SecretBytes(count: count)
    var done = 0
    while done < count {
      let start = done
      var rest = bytes.mutableSpan
      let got = unsafe rest.withUnsafeMutableBytes { buffer in
        unsafe pread(descriptor, buffer.baseAddress.map { unsafe $0 + start }, count - start, off_t(start))
      }
      if got > 0 {
        done += got
      } else if got == 0 {
        throw Failure(.inUse, "\(path): was shortened while it was being read; is a swtpm using it?")
      } else if errno != EINTR {
        throw FileError(errno: errno, file: path, "reading it")
      }
    }
    digest = try Digest.sha256(bytes.span)
    return bytes
  }

  // MARK: Making way

  /// Gives it a second name, under which it is kept. Durable once its folder is synced, as who takes the first name
  /// does.
  ///
  /// - Throws: `.refused` where something has that name.
  func keep() throws {
    guard unsafe link(path, keptPath) == 0 else {
      throw FileError(errno: errno, file: keptPath, "keeping swtpm's state there")
    }
  }

  /// Whether its name still is its own. False where that can't be told.
  var hasItsName: Bool {
    var named = stat()
    return unsafe lstat(path, &named) == 0 && named.st_ino == status.st_ino && named.st_dev == status.st_dev
  }

  /// Takes the second name away again.
  func unkeep() { _ = unsafe unlink(keptPath) }

  /// An image has the first name now.
  func hasMadeWay() { path = keptPath }

  /// Gives it the name under which it is kept, and no other. Nothing is replaced by it.
  func moveAside() throws {
    try keep()
    guard unsafe unlink(path) == 0 else {
      throw FileError(errno: errno, file: path, "moving it to \(keptPath)")
    }
    path = keptPath
    try syncDirectory()
  }

  /// Overwrites it with zeros, syncs that, and removes its name, after `checkUnchanged`. Durable on return.
  func remove() throws {
    var now = stat()
    guard unsafe fstat(descriptor, &now) == 0, now.st_nlink == 1, hasItsName else {
      throw Failure(
        .refused,
        "the image is made and verified, but \(path) has another name by now, too, or no more this one, and is not overwritten; "
          + "remove it yourself")
    }
    do {
      let zeros = ByteBuffer(count: 65536)
      var offset = 0
      while offset < Int(status.st_size) {
        let count = min(zeros.count, Int(status.st_size) - offset)
        let start = off_t(offset)
        let span = zeros.span(0..<count)
        let put = unsafe span.withUnsafeBytes { unsafe pwrite(descriptor, $0.baseAddress, count, start) }
        guard put > 0 else {
          if put < 0, errno == EINTR { continue }
          throw FileError(errno: put < 0 ? errno : EIO, file: path, "overwriting it")
        }
        offset += put
      }
      guard fsync(descriptor) == 0 else { throw FileError(errno: errno, file: path, "syncing it") }
      guard unsafe unlink(path) == 0 else { throw FileError(errno: errno, file: path, "removing it") }
      try syncDirectory()
    } catch let error as FileError {
      throw Failure(
        error.status, "the image is made and verified, but \(error); overwrite and remove what is left by hand")
    }
  }

  private func syncDirectory() throws(FileError) {
    let directory = path.lastIndex(of: "/").map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
    let opened = unsafe Glibc.open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard opened >= 0 else { throw FileError(errno: errno, file: directory, "opening the directory") }
    defer { close(opened) }
    guard fsync(opened) == 0 || errno == EINVAL else {
      throw FileError(errno: errno, file: directory, "syncing the directory")
    }
  }
}
