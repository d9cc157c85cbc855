import CSystem
import Glibc
import Primitives

/// swtpm's lock on a directory of states: an exclusive one (fcntl(2)) on the file `.lock` there, which it holds while
/// it runs. Who has it keeps swtpm from starting, too. It is given up with this object.
///
/// swtpm_setup doesn't hold it itself.
public final class SwtpmLock {
  private let path: String
  /// -1 once it is given up.
  private var descriptor: Int32
  /// Whether the file was made here and is to be gone again.
  private var isTemporary = false

  private init(_ path: String, _ descriptor: Int32) { (self.path, self.descriptor) = (path, descriptor) }

  deinit { release() }

  /// Gives it up.
  public func release() {
    guard descriptor >= 0 else { return }
    // While it is locked: who makes it anew locks another file.
    if isTemporary { _ = unsafe unlink(path) }
    // A child between fork and exec shares it and would hold it on.
    _ = csystem_unlock(descriptor)
    close(descriptor)
    descriptor = -1
  }

  /// Takes it. Nil where swtpm never ran there, or whoever calls may not open the file.
  ///
  /// - Throws: where a swtpm has it.
  public static func take(in directory: String) throws(SwtpmRunsError) -> SwtpmLock? {
    let path = directory + "/.lock"
    var descriptor = unsafe open(path, O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW | O_RDWR)
    if descriptor < 0, errno == EACCES || errno == EROFS {
      descriptor = unsafe open(path, O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW | O_RDONLY)
    }
    guard descriptor >= 0 else { return nil }
    let lock = SwtpmLock(path, descriptor)
    try take(descriptor, of: directory)
    return lock
  }

  /// Makes the file, as swtpm would, for whose state it is, and takes the lock; the file goes with it.
  public static func make(in directory: String, owner: stat) throws -> SwtpmLock {
    let path = directory + "/.lock"
    let descriptor = unsafe open(path, O_CLOEXEC | O_NOFOLLOW | O_RDWR | O_CREAT | O_EXCL, 0o600)
    guard descriptor >= 0 else {
      throw FileError(errno: errno, file: path, "making it, to keep swtpm out,")
    }
    let lock = SwtpmLock(path, descriptor)
    // Should this program be killed swtpm must be able to open it.
    if geteuid() == 0 { _ = fchown(descriptor, owner.st_uid, owner.st_gid) }
    try take(descriptor, of: directory)
    lock.isTemporary = true
    return lock
  }

  /// How often it is tried, every 10 ms: what a killed program has started holds the lock a moment longer.
  private static let tries = 30

  /// Locks an open file as swtpm does.
  ///
  /// - Parameter place: for the message.
  /// - Throws: where another has a lock on it.
  public static func take(_ descriptor: Int32, of place: String) throws(SwtpmRunsError) {
    for _ in 0..<tries {
      if csystem_lock_exclusive(descriptor) == 0 { return }
      // Opened for reading: a shared one is kept from swtpm's, too.
      if errno == EBADF, csystem_lock_shared(descriptor) == 0 { return }
      guard errno == EAGAIN || errno == EACCES else { return }
      usleep(10_000)
    }
    throw SwtpmRunsError(place: place)
  }
}

/// A swtpm runs on the states of a place.
public struct SwtpmRunsError: StatusError {
  public let place: String
  public var status: Status { .inUse }

  public init(place: String) { self.place = place }

  public var description: String { "\(place): a swtpm that runs uses it; shut the virtual machine down first" }
}
