import BlockIO
import Glibc

// Before any work is done on a new file: whether its name may be taken.
extension NewFile {
  /// Refuses to replace an image by a copy of itself.
  static func requireOther(_ path: String, than image: String) throws {
    var (a, b) = (stat(), stat())
    guard unsafe stat(path, &a) == 0, unsafe stat(image, &b) == 0, a.st_dev == b.st_dev, a.st_ino == b.st_ino else {
      return
    }
    throw Failure(.refused, "\(path): is the same file as \(image); name another")
  }

  /// Refuses a name that is taken, before any work is done. What is no regular file is never replaced.
  static func requireFree(_ path: String, force: Bool) throws {
    var status = stat()
    guard unsafe stat(path, &status) == 0 else { return }
    guard status.st_mode & S_IFMT == S_IFREG else {
      throw Failure(.refused, "\(path): is there, and is no regular file; name a file")
    }
    guard force else {
      throw Failure(.refused, "\(path): exists already; name another file, or replace it with --force")
    }
  }
}
