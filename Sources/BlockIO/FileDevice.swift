import CSystem
import Glibc
import Primitives

/// A regular file or a block device, locked for as long as this object has it open.
///
/// Invariants: nothing is read before the lock is held; `size` is at most `Int64.max`, and no transfer leaves it; the
/// descriptor is closed with this object and isn't inherited by programs that are started.
///
/// The lock is an open file description lock (fcntl(2), F_OFD_SETLK) over the whole file: exclusive for writing, shared
/// for reading. It binds who asks for it; a block device opened for writing is taken with O_EXCL as well, which keeps
/// mount(8) and device mapper away. Symbolic links are followed, since /dev/disk/by-* consists of them.
///
/// Where the process has a limit on file sizes (RLIMIT_FSIZE), a write past it raises SIGXFSZ, which ends the process;
/// a program that ignores the signal gets `.noSpace` instead.
public final class FileDevice: BlockDevice {
  public enum Access: Sendable {
    case readOnly
    case readWrite
  }

  public let name: String
  public internal(set) var size: ByteCount
  public let blockSize: Int
  public let blockNotices: [String]
  public let isWritable: Bool
  public let mayChange: Bool

  let kind: FileStatus.Kind
  /// -1 once closed.
  private(set) var descriptor: Int32
  var hook: SystemCallHook?
  /// Whether all of its space is known to be allocated.
  var isAllocated = false

  init(
    path: String, kind: FileStatus.Kind, access: Access, size: ByteCount, unit: TearingUnit, hook: SystemCallHook?,
    descriptor: consuming Descriptor, mayChange: Bool = false
  ) {
    self.mayChange = mayChange
    name = path
    self.kind = kind
    self.size = size
    (blockSize, blockNotices) = (unit.bytes, unit.notices)
    isWritable = access == .readWrite
    self.hook = hook
    self.descriptor = descriptor.release()
  }

  deinit { close() }

  /// Closes the file and gives up the lock. Not a sync.
  public func close() {
    guard descriptor >= 0 else { return }
    // A child between fork and exec shares the lock and would hold it on.
    _ = csystem_unlock(descriptor)
    closeDescriptor()
  }

  func closeDescriptor() {
    _ = Glibc.close(descriptor)
    descriptor = -1
  }

  /// The bits of its mode that give rights to its group or everyone: to everyone, for a block device, whose group is
  /// the system's. 0 where there are none, or where that can't be told.
  public var wideMode: UInt32 {
    var status = stat()
    guard unsafe csystem_fstat(descriptor, &status) == 0 else { return 0 }
    return status.st_mode & (kind == .block ? 0o007 : 0o077)
  }

  /// Whether the path still leads to this file. True where that can't be told.
  public var hasItsName: Bool {
    var (own, named) = (stat(), stat())
    guard unsafe csystem_fstat(descriptor, &own) == 0 else { return true }
    guard unsafe stat(name, &named) == 0 else { return errno != ENOENT && errno != ENOTDIR }
    return own.st_dev == named.st_dev && own.st_ino == named.st_ino
  }

  /// Whether its path is a symbolic link, and it is a file and no block device. True where that can't be told.
  public var isLinkedFile: Bool { kind == .regular && !hasName(name) }

  /// Whether `path` names this very file, and no link to it.
  public func hasName(_ path: String) -> Bool {
    var (own, named) = (stat(), stat())
    return unsafe csystem_fstat(descriptor, &own) == 0 && lstat(path, &named) == 0 && own.st_dev == named.st_dev
      && own.st_ino == named.st_ino
  }

  /// Whether the path leads to a block device.
  public static func isBlockDevice(_ path: String) -> Bool {
    var status = stat()
    return unsafe stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFBLK
  }

  // MARK: Opening

  /// Opens what exists.
  ///
  /// - Throws: `.inUse` where another holds a lock that excludes this one (this process too, through another device);
  ///   `.wrongKind` for anything but a regular file or a block device; `.notFound`, `.permissionDenied`, `.readOnly`.
  public static func open(path: String, access: Access) throws(BlockError) -> FileDevice {
    try open(path: path, access: access, hook: nil)
  }

  /// Opens what exists for reading, whoever has it open, and keeps nobody from opening it: without a lock. What is read
  /// may be of different moments.
  public static func openUnlocked(path: String) throws(BlockError) -> FileDevice {
    try open(path: path, access: .readOnly, hook: nil, locking: false)
  }

  static func open(
    path: String, access: Access, hook: SystemCallHook?, locking: Bool = true
  ) throws(BlockError) -> FileDevice {
    try FileStatus.check(path)
    // Asked before opening, since opening alone makes some character devices do something; and after, since the path
    // may name something else by then.
    var before = stat()
    guard unsafe stat(path, &before) == 0 else { throw BlockError(errno: errno, device: path, "opening it") }
    let kind = try FileStatus.kind(before, path: path)
    var flags = O_CLOEXEC | O_NOCTTY | (access == .readWrite ? O_RDWR : O_RDONLY)
    switch kind {
    case .block: if access == .readWrite { flags |= O_EXCL }
    case .regular: flags |= O_NONBLOCK  // No effect on a file; were it a FIFO now, opening would wait for a writer.
    }
    let descriptor = try Descriptor.open(path, flags, access == .readWrite ? "opening it for writing" : "opening it")
    var after = stat()
    guard unsafe csystem_fstat(descriptor.raw, &after) == 0 else {
      throw BlockError(errno: errno, device: path, "opening it")
    }
    guard try FileStatus.kind(after, path: path) == kind else {
      throw BlockError(.wrongKind, device: path, "was replaced by something else while it was being opened; try again")
    }
    if kind == .block, access == .readWrite, try FileStatus.isReadOnly(descriptor.raw, path: path) {
      throw BlockError(.readOnly, device: path, "is a read-only device; open it for reading, or make it writable")
    }
    if locking {
      try descriptor.lock(access, path: path)
      // Who had the lock before may have put another file in its place: this one has lost its name then.
      guard unsafe stat(path, &before) == 0, before.st_dev == after.st_dev, before.st_ino == after.st_ino else {
        throw BlockError(
          .inUse, device: path, "was replaced by another file while it was being opened; try again")
      }
    }
    return FileDevice(
      path: path, kind: kind, access: access, size: try FileStatus.size(descriptor.raw, kind, path: path),
      unit: try TearingUnit(of: descriptor.raw, kind, path: path), hook: hook, descriptor: descriptor,
      mayChange: !locking)
  }

  /// Makes a file of `size` bytes, readable by its owner alone, opened for writing; or takes what exists, if
  /// `replacing`.
  ///
  /// Space is allocated for all of it, so that writing within it never runs out (on file systems that don't copy on
  /// write); file, size and directory entry are durable on return. A new file holds zeros. One that is replaced keeps
  /// its owner and mode and has unspecified content; a block device keeps its size, which must suffice.
  ///
  /// - Throws: `.exists` unless `replacing`; `.noSpace`, and then there is no new file, and an old one is as it was;
  ///   `.inUse`, `.wrongKind` and others as `open` does.
  public static func create(path: String, size: ByteCount, replacing: Bool) throws(BlockError) -> FileDevice {
    try create(path: path, size: size, replacing: replacing, hook: nil)
  }

  static func create(
    path: String, size: ByteCount, replacing: Bool, hook: SystemCallHook?
  ) throws(BlockError) -> FileDevice {
    try FileStatus.check(path)
    let descriptor: Descriptor
    do {
      descriptor = try Descriptor.open(path, O_CLOEXEC | O_RDWR | O_CREAT | O_EXCL, "making it")
    } catch {
      guard error.code == .exists else { throw error }
      guard replacing else {
        throw BlockError(.exists, device: path, "exists already; name another file, or say that it is to be replaced")
      }
      let device = try open(path: path, access: .readWrite, hook: hook)
      try device.resize(to: size)
      return device
    }
    do {
      try descriptor.lock(.readWrite, path: path)
      let device = FileDevice(
        path: path, kind: .regular, access: .readWrite, size: .zero,
        unit: try TearingUnit(of: descriptor.raw, .regular, path: path), hook: hook, descriptor: descriptor)
      try device.resize(to: size)
      try syncDirectory(containing: path)
      return device
    } catch {
      _ = unsafe unlink(path)
      throw error
    }
  }

  // MARK: Transfers

  public func read(at offset: ByteOffset, into destination: consuming MutableSpan<UInt8>) throws(BlockError) {
    let count = destination.count
    guard let start = place(offset, count) else {
      throw BlockError(
        .truncated, device: name,
        "ends at byte \(size.value), before the \(count) bytes at \(offset) that were to be read")
    }
    var destination = destination
    var done = 0
    while done < count {
      var wanted = count - done
      var result = 0
      var error: Int32 = 0
      switch hook?(.read) {
      case .fails(let injected)?: (result, error) = (-1, injected)
      case .short(let limit)?:
        wanted = min(wanted, limit)
        fallthrough
      case nil:
        result = unsafe destination.withUnsafeMutableBytes { buffer in
          unsafe pread(descriptor, buffer.baseAddress.map { unsafe $0 + done }, wanted, start + off_t(done))
        }
        if result < 0 { error = errno }
      }
      if result > 0 {
        done += result
      } else if result == 0 && wanted > 0 {
        throw BlockError(
          .truncated, device: name,
          "ended at byte \(start + off_t(done)) although it had \(size): something shortened it")
      } else if error != EINTR {
        throw BlockError(errno: error, device: name, "reading \(count) bytes at \(offset)")
      }
    }
  }

  /// The kernel drops clean pages that it is asked to drop, where nothing else has them in use.
  public func readPastCache(at offset: ByteOffset, into destination: consuming MutableSpan<UInt8>) throws(BlockError) {
    if let start = place(offset, destination.count) {
      // Pages come in folios, and one that lies in the range in part alone stays: all that it may lie in is named.
      let first = start & -Self.largestFolio
      let count = start + off_t(destination.count) - first
      // Were it to fail: the old bytes are what can be had.
      _ = posix_fadvise(descriptor, first, (count + Self.largestFolio - 1) & -Self.largestFolio, POSIX_FADV_DONTNEED)
    }
    try read(at: offset, into: destination)
  }

  /// What the kernel caches as one, in bytes: aligned, and no larger than a huge page.
  private static let largestFolio: off_t = 2 << 20

  public func write(_ source: Span<UInt8>, at offset: ByteOffset) throws(BlockError) {
    try checkWritable()
    guard let start = place(offset, source.count) else {
      throw BlockError(
        .noSpace, device: name,
        "ends at byte \(size.value), before the \(source.count) bytes at \(offset) that were to be written"
      )
    }
    try transferOut(source, at: start)
  }

  func transferOut(_ source: Span<UInt8>, at start: off_t) throws(BlockError) {
    var done = 0
    while done < source.count {
      var wanted = source.count - done
      var result = 0
      var error: Int32 = 0
      switch hook?(.write) {
      case .fails(let injected)?: (result, error) = (-1, injected)
      case .short(let limit)?:
        wanted = min(wanted, limit)
        fallthrough
      case nil:
        result = unsafe source.withUnsafeBytes { buffer in
          unsafe pwrite(descriptor, buffer.baseAddress.map { unsafe $0 + done }, wanted, start + off_t(done))
        }
        // Nothing written and no reason given: trying on for ever would be the worse answer.
        error = result < 0 ? errno : EIO
      }
      if result > 0 {
        done += result
      } else if error != EINTR {
        throw BlockError(errno: error, device: name, "writing \(source.count) bytes at byte \(start)")
      }
    }
  }

  /// fdatasync(2). Never tried again, not even after EINTR: a second success says nothing about what the first one
  /// lost.
  public func sync() throws(BlockError) {
    if case .fails(let injected)? = hook?(.sync) { throw BlockError(errno: injected, device: name, "syncing it") }
    guard fdatasync(descriptor) == 0 else { throw failure("syncing it") }
  }

  /// Gives a file another name in the same directory, durably. The file itself has been synced.
  ///
  /// - Parameter replacing: what has that name already goes; without it that is `.exists`.
  public static func rename(_ path: String, to name: String, replacing: Bool) throws(BlockError) {
    try FileStatus.check(path)
    try FileStatus.check(name)
    let result = unsafe replacing ? Glibc.rename(path, name) : csystem_rename_new(path, name)
    guard result == 0 else {
      guard errno != EEXIST else {
        throw BlockError(.exists, device: name, "exists already; name another file, or say that it is to be replaced")
      }
      throw BlockError(errno: errno, device: name, "renaming \(path) to it")
    }
    try syncDirectory(containing: name)
  }

  /// Makes the entry of `path` in its directory durable, after the file was made, renamed or removed.
  public static func syncDirectory(containing path: String) throws(BlockError) {
    try FileStatus.check(path)
    let directory = directory(of: path)
    let descriptor = try Descriptor.open(directory, O_CLOEXEC | O_RDONLY | O_DIRECTORY, "opening it")
    // EINVAL: a file system whose directories have nothing to sync.
    guard fsync(descriptor.raw) == 0 || errno == EINVAL else {
      throw BlockError(errno: errno, device: directory, "syncing the directory")
    }
  }
}

// MARK: Parts

extension FileDevice {
  static func directory(of path: String) -> String {
    guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }

  func checkWritable() throws(BlockError) {
    guard isWritable else { throw BlockError(.readOnly, device: name, "was opened for reading only") }
  }

  /// `errno` in words; to be called before anything else can change it.
  func failure(_ action: String) -> BlockError { BlockError(errno: errno, device: name, action) }

  /// The offset for the kernel, if all of the transfer lies within the size.
  private func place(_ offset: ByteOffset, _ count: Int) -> off_t? {
    guard offset.value <= size.value, UInt64(count) <= size.value - offset.value else { return nil }
    return off_t(offset.value)
  }
}
