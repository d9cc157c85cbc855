import Glibc
import Primitives
import ProgramIO
import SwtpmFormat
import VTPM

/// `--pid`: a file with the server's process number and a newline, written when the server serves; it is there, and empty, from
/// before the process gives up its rights. One that was named is removed in the end; one that came as a descriptor is who opened it's to remove.
struct PIDFile {
  private enum Place {
    case file(String)
    case descriptor(Int32)
  }

  private var place: Place
  /// Open for writing, once it was made.
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

  /// Makes it, or empties an older one. Everybody may read it, as a process number is no secret.
  ///
  /// - Throws: what is no regular file is not written to, and a symbolic link not followed; a file that is named is an old
  ///   PID file, or empty, or it stays as it is: this may be root, before it becomes another user.
  mutating func make() throws(FileError) {
    let (descriptor, name): (Int32, String)
    switch place {
    case .file(let path):
      place = .file(Path.absolute(path))
      name = path
      let flags = O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY
      descriptor = unsafe open(path, flags, 0o600)
      guard descriptor >= 0 else { throw FileError(errno: errno, file: path, "making the PID file") }
    case .descriptor(let number):
      name = "descriptor \(number)"
      // A daemon's standard streams lead nowhere.
      descriptor = number > 2 ? number : fcntl(number, F_DUPFD_CLOEXEC, 3)
      guard descriptor >= 0 else { throw FileError(errno: errno, file: name, "duplicating it") }
    }
    var isMade = false
    defer { if !isMade { close(descriptor) } }
    var status = stat()
    guard unsafe fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
      throw FileError(EINVAL, file: name, detail: "is no regular file, as a PID file must be")
    }
    if case .file = place, !Self.isOld(descriptor, status) {
      throw FileError(
        EEXIST, file: name, detail: "is there, and isn't an old PID file; remove it, or name another with --pid")
    }
    if case .file = place, status.st_uid == geteuid() { _ = fchmod(descriptor, 0o644) }
    guard ftruncate(descriptor, 0) == 0 else { throw FileError(errno: errno, file: name, "emptying it") }
    isMade = true
    self.descriptor = descriptor
  }

  /// Writes the number.
  func write() throws(FileError) {
    try OutputFile(descriptor: descriptor, name: "the PID file").write("\(getpid())\n")
  }

  /// Whether it has nothing but a process number, and no other name.
  private static func isOld(_ descriptor: Int32, _ status: stat) -> Bool {
    guard status.st_nlink <= 1, status.st_size <= 20 else { return false }
    var bytes = [UInt8](repeating: 0, count: Int(status.st_size))
    guard unsafe pread(descriptor, &bytes, bytes.count, 0) == bytes.count else { return false }
    if bytes.last == UInt8(ascii: "\n") { bytes.removeLast() }
    return bytes.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
  }

  /// Removes it, if it was made and named. What can't be removed any more (as another user, `--runas`) stays.
  func remove() {
    guard descriptor >= 0 else { return }
    close(descriptor)
    if case .file(let path) = place { _ = unsafe unlink(path) }
  }
}
