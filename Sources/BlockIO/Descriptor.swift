import CSystem
import Glibc

/// Owns a file descriptor until it is released: no error path leaks one.
struct Descriptor: ~Copyable {
  let raw: Int32

  private init(_ raw: Int32) { self.raw = raw }

  init(owning raw: Int32) { self.raw = raw }

  deinit { _ = Glibc.close(raw) }

  /// Gives the descriptor to somebody who will close it.
  consuming func release() -> Int32 {
    let raw = raw
    discard self
    return raw
  }

  /// open(2) with mode 0600, again after EINTR.
  static func open(_ path: String, _ flags: Int32, _ action: String) throws(BlockError) -> Descriptor {
    while true {
      let raw = unsafe Glibc.open(path, flags, 0o600)
      if raw >= 0 { return Descriptor(raw) }
      guard errno == EINTR else { throw BlockError(errno: errno, device: path, action) }
    }
  }

  /// For how long it is tried to get a lock that another process has, every 10 ms: one that was killed has it until the
  /// kernel has closed its files, which is after who killed it was told.
  private static let lockTries = 30

  /// Takes the lock that `access` needs, or says soon that another has it.
  func lock(_ access: FileDevice.Access, path: String) throws(BlockError) {
    var result: Int32 = -1
    for attempt in 1...Self.lockTries {
      result = access == .readWrite ? csystem_lock_exclusive(raw) : csystem_lock_shared(raw)
      guard result != 0, errno == EAGAIN || errno == EACCES, attempt < Self.lockTries else { break }
      usleep(10_000)
    }
    guard result == 0 else {
      // POSIX lets fcntl say EACCES as well for "another has it".
      guard errno == EAGAIN || errno == EACCES else { throw BlockError(errno: errno, device: path, "locking it") }
      throw BlockError(
        .inUse, device: path,
        "is in use by another process (`fuser` shows which); stop that one first (`vnvram backup` reads an image in use)"
      )
    }
  }
}
