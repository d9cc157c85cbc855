import Glibc
import Primitives

/// Where content goes: standard output, a descriptor, or a file that takes its name only once it is whole.
///
/// A file is written beside its place under another name, readable by its owner alone, synced, and renamed when
/// `finish` is called; without that it is removed and what was at its place stays. So nobody ever finds half of it.
/// What is not a regular file (a terminal, a pipe, /dev/null) is written directly.
public struct OutputFile: ~Copyable {
  public let name: String
  private let descriptor: Int32
  private let isOwned: Bool
  /// The name it has until it is finished.
  private var temporary: String?

  /// Standard output for `nil` and `-`.
  public init(path: String?) throws(FileError) {
    guard let path, path != "-" else {
      self.init(descriptor: 1, name: "standard output")
      return
    }
    guard !path.isEmpty, !path.utf8.contains(0) else { throw FileError(errno: ENOENT, file: path, "making it") }
    var status = stat()
    if unsafe stat(path, &status) == 0, status.st_mode & S_IFMT != S_IFREG {
      guard status.st_mode & S_IFMT != S_IFDIR else { throw FileError(errno: EISDIR, file: path, "writing it") }
      let descriptor = unsafe open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY)
      guard descriptor >= 0 else { throw FileError(errno: errno, file: path, "opening it") }
      self.init(name: path, descriptor: descriptor, isOwned: true, temporary: nil)
      return
    }
    let temporary = "\(path).\(getpid()).tmp"
    let descriptor = unsafe open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard descriptor >= 0 else { throw FileError(errno: errno, file: path, "making it") }
    self.init(name: path, descriptor: descriptor, isOwned: true, temporary: temporary)
  }

  /// A descriptor that the caller was started with; it stays open.
  public init(descriptor: Int32, name: String) {
    self.init(name: name, descriptor: descriptor, isOwned: false, temporary: nil)
  }

  private init(name: String, descriptor: Int32, isOwned: Bool, temporary: String?) {
    self.name = name
    self.descriptor = descriptor
    self.isOwned = isOwned
    self.temporary = temporary
  }

  deinit {
    if isOwned { close(descriptor) }
    if let temporary { _ = unsafe unlink(temporary) }
  }

  public var isTerminal: Bool { isatty(descriptor) == 1 }

  public func write(_ bytes: Span<UInt8>) throws(FileError) {
    var done = 0
    while done < bytes.count {
      let result = unsafe bytes.withUnsafeBytes { buffer in
        unsafe Glibc.write(descriptor, buffer.baseAddress.map { unsafe $0 + done }, bytes.count - done)
      }
      if result >= 0 {
        done += result
      } else if errno != EINTR {
        throw FileError(errno: errno, file: name, "writing to it")
      }
    }
  }

  public func write(_ text: String) throws(FileError) {
    let bytes = Array(text.utf8)
    try write(bytes.span)
  }

  /// Puts a file in its place, durable on return.
  public mutating func finish() throws(FileError) {
    guard let temporary else { return }
    guard fsync(descriptor) == 0 else { throw FileError(errno: errno, file: name, "syncing it") }
    guard unsafe rename(temporary, name) == 0 else { throw FileError(errno: errno, file: name, "renaming it") }
    self.temporary = nil
    let directory = Self.directory(of: name)
    let opened = unsafe open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard opened >= 0 else { throw FileError(errno: errno, file: directory, "opening the directory") }
    defer { close(opened) }
    // EINVAL: a file system whose directories have nothing to sync.
    guard fsync(opened) == 0 || errno == EINVAL else {
      throw FileError(errno: errno, file: directory, "syncing the directory")
    }
  }

  private static func directory(of path: String) -> String {
    guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }
}
