import CSystem
import Glibc
import Primitives
import ProgramIO
import SwtpmFormat

/// Where swtpm keeps a TPM's state: a directory or a single file. Locked against swtpm while this is there, as far as
/// swtpm looks at locks, and never written to, except by `remove`.
///
/// Nothing is read before it is known to be a regular file of a size that a state can have; symbolic links within the
/// directory are not followed, since whoever may write there needn't be who may read what they lead to.
final class SwtpmSource {
  let path: String
  let version: SwtpmVersion?
  let isSingleFile: Bool
  /// The owner of the permanent state, for the image that takes its place.
  let owner: stat
  private let files: [SourceFile]
  /// Held for its lock alone.
  private let lock: SourceFile?

  /// - Parameter version: what was asked for; nil to find out.
  /// - Throws: `.notAnImage` where there is no swtpm state; `.inUse`; `.refused` for what can't be told.
  init(_ path: String, version: SwtpmVersion?, removing: Bool) throws {
    var status = stat()
    guard unsafe stat(path, &status) == 0 else { throw FileError(errno: errno, file: path, "looking for it") }
    self.path = path
    switch status.st_mode & S_IFMT {
    case S_IFDIR:
      isSingleFile = false
      lock = try SourceFile.lock(in: path)
      let found = try Self.version(in: path, version)
      self.version = found
      var files: [SourceFile] = []
      for kind in found.states {
        let limit = SwtpmContainer.maximumSize
        if let file = try SourceFile(path + "/" + found.fileName(kind), kind, limit: limit, removing: removing) {
          files.append(file)
        }
      }
      guard let first = files.first, first.kind == .permall else { throw Self.none(path) }
      (self.files, owner) = (files, first.status)
    default:
      isSingleFile = true
      lock = nil
      self.version = version
      guard let file = try SourceFile(path, nil, limit: SwtpmSingleFile.maximumSize, removing: removing) else {
        throw Self.none(path)
      }
      try file.lockAgainstSwtpm()
      (files, owner) = ([file], file.status)
    }
  }

  // MARK: What is there

  private static func version(in path: String, _ asked: SwtpmVersion?) throws -> SwtpmVersion {
    let there = SwtpmVersion.allCases.filter { exists("\(path)/\($0.fileName(.permall))") }
    if let asked {
      guard there.contains(asked) else {
        throw Failure(
          .notAnImage,
          "\(path): has no state of a \(asked.label): no \(asked.fileName(.permall))" + hint(path, there))
      }
      return asked
    }
    guard let only = there.first else { throw none(path) }
    guard there.count == 1 else {
      throw Failure(.refused, "\(path): has states of a TPM 2.0 and of a TPM 1.2; say --tpm2 or --tpm1.2")
    }
    return only
  }

  private static func exists(_ path: String) -> Bool {
    var status = stat()
    return unsafe lstat(path, &status) == 0
  }

  private static func none(_ path: String) -> Failure {
    Failure(
      .notAnImage, "\(path): holds no state of swtpm's: no tpm2-00.permall and no tpm-00.permall" + hint(path, []))
  }

  /// libvirt has the state one folder further down.
  private static func hint(_ path: String, _ there: [SwtpmVersion]) -> String {
    if let other = there.first { return "; there is one of a \(other.label)" }
    for (folder, version) in [("tpm2", SwtpmVersion.tpm2), ("tpm1.2", .tpm12)]
    where exists("\(path)/\(folder)/\(version.fileName(.permall))") {
      return "; there is one in \(path)/\(folder)"
    }
    return ""
  }

  // MARK: Reading

  /// The states, decrypted, permanent one first.
  ///
  /// - Returns: of which TPM they are, too; for a single file that shows in the permanent state.
  func read(_ key: SwtpmKey?) throws -> (SwtpmVersion, [SwtpmState]) {
    var states: [SwtpmState] = []
    for file in files {
      let bytes = try file.read()
      if let kind = file.kind {
        states.append(try open(bytes.span, kind, key, file.path))
      } else {
        states = try readSingle(bytes.span, key)
      }
    }
    guard let permanent = states.first, permanent.kind == .permall else {
      throw Failure(.notAnImage, "\(path): holds no permanent state")
    }
    let found = permanent.version
    let version = self.version ?? found
    guard found == version || found == .tpm12 else {
      throw Failure(.notAnImage, "\(path): holds the state of a \(found.label), not of a \(version.label)")
    }
    for state in states {
      guard version.states.contains(state.kind) else {
        throw Failure(.notAuthentic, "\(path): has a \(state.name), which a \(version.label) doesn't have")
      }
      let most = version.maximumSize(state.kind)
      guard state.content.count <= most else {
        throw Failure(
          .noSpace, "\(path): \(state.name) has \(state.content.count) bytes; a \(version.label) has \(most) at most")
      }
    }
    return (version, states)
  }

  private func readSingle(_ bytes: Span<UInt8>, _ key: SwtpmKey?) throws -> [SwtpmState] {
    guard SwtpmSingleFile.isBeginning(bytes) else {
      let isContainer = bytes.count >= 4 && bytes[0] == 2 && bytes[1] == 1 && bytes[2] == 0 && bytes[3] == 10
      throw Failure(
        .notAnImage,
        "\(path): is no file of swtpm's backend file://"
          + (isContainer ? "; it looks like one out of a state directory: name the directory" : ""))
    }
    let sections: [(kind: SwtpmStateKind, range: Range<Int>)]
    do { sections = try SwtpmSingleFile.sections(of: bytes, fileSize: bytes.count) } catch { throw told(error, path) }
    return try sections.map { try open(bytes.extracting($0.range), $0.kind, key, "\(path): \($0.kind.rawValue)") }
  }

  private func open(_ blob: Span<UInt8>, _ kind: SwtpmStateKind, _ key: SwtpmKey?, _ place: String) throws -> SwtpmState
  {
    do {
      let isEncrypted = try SwtpmContainer.isEncrypted(file: blob)
      return SwtpmState(kind, try SwtpmContainer.state(inFile: blob, key: key), wasEncrypted: isEncrypted)
    } catch { throw told(error, place) }
  }

  private func told(_ error: SwtpmFormatError, _ place: String) -> Failure {
    let remedy =
      switch error {
      case .keyMissing: "; give the key that swtpm was given, with --swtpm-key"
      case .keySize: "; does --swtpm-key say the right mode?"
      case .wrongKey: "; is --swtpm-key as swtpm's --key was, kdf, mode and format among it?"
      default: ""
      }
    return Failure(error.status, "\(place): \(error)\(remedy)")
  }

  // MARK: Removing

  /// Overwrites the files, and removes them; durable on return. The permanent state goes last: without it the others are
  /// of no use, and swtpm would make a new TPM.
  ///
  /// - Throws: what is left is named.
  func remove() throws { for file in files.reversed() { try file.remove() } }
}

/// One of swtpm's files.
private final class SourceFile {
  let path: String
  /// Nil for a single file, which has several.
  let kind: SwtpmStateKind?
  let status: stat
  private let descriptor: Int32
  private let isWritable: Bool

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
    self.init(path, kind, descriptor, status, isWritable: removing)
    guard status.st_mode & S_IFMT == S_IFREG else { throw Self.wrongKind(path) }
    guard status.st_size <= limit else {
      throw Failure(.noSpace, "\(path): has \(status.st_size) bytes; swtpm's have \(limit) at most")
    }
    guard !removing || status.st_nlink == 1 else {
      throw Failure(
        .refused, "\(path): has another name, too (a hard link), and is not overwritten; remove it yourself")
    }
  }

  private static func wrongKind(_ path: String) -> Failure {
    Failure(.notAnImage, "\(path): is no regular file; swtpm's states are in files")
  }

  // MARK: Locks

  /// swtpm holds a lock on the file .lock in its directory while it runs. Taking it keeps swtpm from starting, too.
  static func lock(in directory: String) throws -> SourceFile? {
    let path = directory + "/.lock"
    var descriptor = unsafe Glibc.open(path, O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW | O_RDWR)
    if descriptor < 0, errno == EACCES || errno == EROFS {
      descriptor = unsafe Glibc.open(path, O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW | O_RDONLY)
    }
    guard descriptor >= 0 else { return nil }
    var status = stat()
    unsafe fstat(descriptor, &status)
    let file = SourceFile(path, nil, descriptor, status, isWritable: true)
    try file.take(of: directory)
    return file
  }

  /// swtpm 0.7.1 takes no lock on a single file, but has it open for writing, which keeps others from having a lease
  /// (fcntl(2)). It is asked for and given back; whose file it isn't, and who isn't root, doesn't get one.
  func lockAgainstSwtpm() throws {
    try take(of: path)
    let lease: Int32 = 1024  // F_SETLEASE
    guard fcntl(descriptor, lease, isWritable ? F_WRLCK : F_RDLCK) != 0 else {
      _ = fcntl(descriptor, lease, F_UNLCK)
      return
    }
    if errno == EAGAIN { throw Self.inUse(path) }
  }

  private func take(of place: String) throws {
    if csystem_lock_exclusive(descriptor) == 0 { return }
    // Opened for reading: a shared one is kept from swtpm's, too.
    if errno == EBADF, csystem_lock_shared(descriptor) == 0 { return }
    if errno == EAGAIN || errno == EACCES { throw Self.inUse(place) }
  }

  private static func inUse(_ path: String) -> Failure {
    Failure(.inUse, "\(path): a swtpm that runs uses it; shut the virtual machine down first")
  }

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
    return bytes
  }

  /// Overwrites it with zeros, syncs that, and removes its name. Durable on return.
  func remove() throws {
    do {
      // A name that leads to another file by now is somebody else's.
      var named = stat()
      guard unsafe lstat(path, &named) == 0, named.st_ino == status.st_ino, named.st_dev == status.st_dev else {
        throw FileError(ESTALE, file: path, detail: "was replaced meanwhile")
      }
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
