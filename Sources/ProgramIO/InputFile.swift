import Glibc
import Primitives

/// A file, pipe or descriptor that is read from its present place to its end.
public struct InputFile: ~Copyable {
  /// For messages.
  public let name: String
  private let descriptor: Int32
  private let isOwned: Bool

  /// Opens a file; `-` is standard input.
  public init(path: String) throws(FileError) {
    if path == "-" {
      self.init(descriptor: 0, name: "standard input")
      return
    }
    guard !path.utf8.contains(0) else { throw FileError(errno: EINVAL, file: "a path with a zero byte", "opening it") }
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY)
    guard descriptor >= 0 else { throw FileError(errno: errno, file: path, "opening it") }
    self.init(name: path, descriptor: descriptor, isOwned: true)
  }

  /// A descriptor that the caller was started with; it stays open.
  public init(descriptor: Int32, name: String) { self.init(name: name, descriptor: descriptor, isOwned: false) }

  private init(name: String, descriptor: Int32, isOwned: Bool) {
    self.name = name
    self.descriptor = descriptor
    self.isOwned = isOwned
  }

  deinit { if isOwned { close(descriptor) } }

  /// How many bytes there are to come, where that can be known: for a regular file.
  public var remaining: UInt64? {
    var status = stat()
    guard unsafe fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
    let place = lseek(descriptor, 0, SEEK_CUR)
    return place < 0 ? nil : UInt64(max(0, status.st_size - place))
  }

  /// Fills as much of `destination` as there is; fewer bytes than it holds only at the end.
  public func read(into destination: consuming MutableSpan<UInt8>) throws(FileError) -> Int {
    let count = destination.count
    var done = 0
    while done < count {
      let got = unsafe destination.withUnsafeMutableBytes { buffer in
        unsafe Glibc.read(descriptor, buffer.baseAddress.map { unsafe $0 + done }, count - done)
      }
      if got == 0 { break }
      if got > 0 {
        done += got
      } else if errno != EINTR {
        throw FileError(errno: errno, file: name, "reading it")
      }
    }
    return done
  }

  /// Reads a secret, up to its end, straight into locked memory.
  ///
  /// - Throws: EFBIG where there are more than `limit` bytes.
  public func readSecret(limit: Int) throws(FileError) -> SecretBytes {
    var secret = SecretBytes(count: limit + 1)
    let count = try read(into: secret.mutableSpan)
    guard count <= limit else {
      throw FileError(EFBIG, file: name, detail: "has more than \(limit) bytes; is it the right one?")
    }
    return secret.prefix(count)
  }

  /// Reads a secret of text: up to the first newline, which doesn't belong to it, or the end.
  public func readSecretLine(limit: Int) throws(FileError) -> SecretBytes {
    var secret = SecretBytes(count: limit)
    var byte = SecretBytes(count: 1)
    var count = 0
    while try read(into: byte.mutableSpan) == 1, byte.span[0] != 0x0A {
      guard count < limit else {
        throw FileError(EFBIG, file: name, detail: "has a line of more than \(limit) bytes; is it the right one?")
      }
      var all = secret.mutableSpan
      all[count] = byte.span[0]
      count += 1
    }
    return secret.prefix(count)
  }
}
