import CSystem
import Glibc
import Primitives

// The size of a file and the space for it.
extension FileDevice {
  /// Makes the file `size` bytes long if it is shorter, with space allocated; durable on return. A block device must
  /// have the size already, and is asked for it anew.
  ///
  /// - Throws: `.noSpace`, and then the size is what it was.
  public func grow(to size: ByteCount) throws(BlockError) {
    if size > self.size || kind == .block { try resize(to: max(size, self.size)) }
  }

  func resize(to size: ByteCount) throws(BlockError) {
    try checkWritable()
    if kind == .block {
      self.size = try FileStatus.size(descriptor, kind, path: name)
      guard self.size >= size else {
        throw BlockError(
          .noSpace, device: name, "has \(self.size), and \(size) are needed; enlarge it or take another device")
      }
      return
    }
    guard let length = off_t(exactly: size.value) else {
      throw BlockError(.noSpace, device: name, "can't have \(size); no file is that large")
    }
    let old = self.size
    do {
      if try !reserve(length, .new) { try writeZeros(from: off_t(old.value), to: length) }
    } catch {
      // Nothing is lost by this: it only takes off what was just added.
      _ = ftruncate(descriptor, off_t(old.value))
      throw error
    }
    if size < old {
      guard ftruncate(descriptor, length) == 0 else { throw failure("shortening it to \(size)") }
    }
    guard fsync(descriptor) == 0 else { throw failure("syncing it") }
    self.size = size
  }

  /// For a block device nothing; for a file by fallocate(2), which takes blocks that a copy shares apart, too, where
  /// the file system can (XFS). Where it has no fallocate(2), zeros are written into holes, and nowhere else; one that
  /// shows no holes either (NFS before 4.2) keeps those that it has.
  ///
  /// What lies behind `length` stays as it is. Where there isn't enough room nothing is tried: some file systems keep
  /// what a failed fallocate(2) had taken. XFS asks for the room of all of it, though nothing is missing; so what it
  /// says counts only where something is.
  public func allocate(_ length: ByteCount) throws(BlockError) {
    guard kind == .regular, !isAllocated else { return }
    try checkWritable()
    let length = off_t(min(length, size).value)
    guard csystem_has_room(descriptor, Int64(length)) != 0 else { throw noRoom(length, errno: ENOSPC) }
    do throws(BlockError) {
      if try !reserve(length, .unshared), try !reserve(length, .new) { try fillHoles(upTo: length) }
    } catch {
      guard error.code == .noSpace, csystem_is_allocated(descriptor, Int64(length)) == 1 else { throw error }
    }
    isAllocated = true
  }

  private func noRoom(_ length: off_t, errno: Int32) -> BlockError {
    BlockError(errno: errno, device: name, "allocating \(length) bytes for it")
  }

  private enum Reservation {
    /// Blocks for what has none.
    case new
    /// And for what shares its blocks with another file.
    case unshared
  }

  /// Allocates the first `length` bytes by fallocate(2). posix_fallocate(3) would hide whether the file system can, and
  /// its emulation leaves blocks that were never written.
  ///
  /// - Returns: false where it can't.
  private func reserve(_ length: off_t, _ kind: Reservation) throws(BlockError) -> Bool {
    guard length > 0 else { return true }
    while true {
      var error: Int32 = 0
      if case .fails(let injected)? = hook?(.allocate) {
        error = injected
      } else {
        let result =
          kind == .unshared
          ? csystem_allocate_unshared(descriptor, Int64(length)) : csystem_allocate(descriptor, Int64(length))
        if result != 0 { error = errno }
      }
      switch error {
      case 0: return true
      case EINTR: continue
      case EOPNOTSUPP, ENOSYS: return false
      default: throw noRoom(length, errno: error)
      }
    }
  }

  /// Linux' own; the C library shows them to GNU sources only.
  private static let (seekData, seekHole): (Int32, Int32) = (3, 4)

  private func fillHoles(upTo end: off_t) throws(BlockError) {
    var offset: off_t = 0
    while offset < end {
      let hole = lseek(descriptor, offset, Self.seekHole)
      // EINVAL: a file system that shows none.
      guard hole >= 0 || errno == EINVAL else { throw failure("looking for holes in it") }
      guard hole >= 0, hole < end else { break }
      offset = lseek(descriptor, hole, Self.seekData)
      // ENXIO: no data follows.
      guard offset >= 0 || errno == ENXIO else { throw failure("looking for holes in it") }
      if offset < 0 || offset > end { offset = end }
      try writeZeros(from: hole, to: offset)
    }
    // There, it may be only now that space runs out.
    guard fsync(descriptor) == 0 else { throw failure("syncing it") }
  }

  private func writeZeros(from start: off_t, to end: off_t) throws(BlockError) {
    let zeros = ByteBuffer(count: 65536)
    var offset = start
    while offset < end {
      let count = min(off_t(zeros.count), end - offset)
      try transferOut(zeros.span(0..<Int(count)), at: offset)
      offset += count
    }
  }
}
