import BlockIO
import Glibc
import Primitives
import ProgramIO
import SwtpmFormat

/// Where a TPM's state is written for swtpm. Files have no name until they are whole, and never take the place of
/// others, but of the image that the state comes from: that is kept under another name, and its place always has one of
/// the two.
final class SwtpmTarget {
  private let path: String
  private let version: SwtpmVersion
  private let isSingleFile: Bool
  /// The directory, where it was there.
  private var directory: stat?
  /// swtpm's lock, held until all is written.
  private var lock: SwtpmLock?
  /// The paths of those that took nothing's place, once they are there.
  private var written: [String] = []
  /// The image's place, once all else was done and swtpm's state has it.
  private var taken: [String] = []
  /// The files' paths, once they are there.
  var files: [String] { written + taken }
  /// Where the image is, once swtpm's state has its place.
  private(set) var kept: String?
  private let image: String

  /// - Throws: `.refused` where something would be in the way; `.inUse` where a swtpm runs in the directory.
  init(_ path: String, version: SwtpmVersion, isSingleFile: Bool, image: String) throws {
    (self.path, self.version, self.isSingleFile, self.image) = (path, version, isSingleFile, image)
    var status = stat()
    let isThere = unsafe (isSingleFile ? lstat(path, &status) : stat(path, &status)) == 0
    guard isThere else {
      if errno == ENOENT { return }
      throw FileError(errno: errno, file: path, "looking at it")
    }
    guard !isSingleFile else {
      guard isImage(path) else { throw Failure(.refused, "\(path): exists already; name another file") }
      directory = status
      return
    }
    guard status.st_mode & S_IFMT == S_IFDIR else {
      throw Failure(
        .refused, "\(path): is there, and is no directory; say --single-file for a file, or name another place")
    }
    directory = status
    lock = try SwtpmLock.take(in: path)
    for version in SwtpmVersion.allCases {
      for kind in version.states {
        let name = "\(path)/\(version.fileName(kind))"
        let isPlace = version == self.version && kind == .permall && isImage(name)
        guard try isPlace || !NewFile.isTaken(name) else {
          throw Failure(.refused, "\(name): is there already; nothing was written; name another directory")
        }
      }
    }
  }

  /// Whether a name is that of the image itself.
  private func isImage(_ name: String) -> Bool {
    var (own, named) = (stat(), stat())
    return unsafe stat(image, &own) == 0 && lstat(name, &named) == 0 && named.st_mode & S_IFMT == S_IFREG
      && own.st_dev == named.st_dev && own.st_ino == named.st_ino
  }

  /// Writes them, encrypted where there is a key. Durable on return; after an error what was written is gone again, and
  /// the image is where it was, unless the error says where else.
  func write(_ states: [SwtpmState], _ key: SwtpmKey?) throws {
    var containers: [(kind: SwtpmStateKind, bytes: [UInt8])] = []
    defer { for index in containers.indices { wipe(&containers[index].bytes) } }
    for state in states {
      containers.append((state.kind, try state.lend { try SwtpmContainer.file(of: $0.span, key: key) }))
    }
    if isSingleFile {
      var bytes = SwtpmSingleFile.file(of: containers)
      defer { wipe(&bytes) }
      try put(bytes.span, path)
      return
    }
    let isNew = directory == nil
    if isNew {
      guard unsafe mkdir(path, 0o700) == 0 else { throw FileError(errno: errno, file: path, "making it") }
    }
    do {
      // The permanent state last: until then there is no TPM here, and swtpm wouldn't start with the others.
      for container in containers.reversed() {
        try put(container.bytes.span, "\(path)/\(version.fileName(container.kind))")
      }
      if isNew { try FileDevice.syncDirectory(containing: path) }
    } catch {
      for name in written { _ = unsafe unlink(name) }
      written = []
      if isNew { _ = unsafe rmdir(path) }
      throw error
    }
  }

  private func put(_ bytes: Span<UInt8>, _ name: String) throws {
    let file = try NewFile(at: name, size: ByteCount(bytes.count))
    try file.device.write(bytes, at: ByteOffset(0))
    // Before the sync, which makes them durable, too.
    if var owner = directory, geteuid() == 0 {
      owner.st_mode = 0o600
      try file.inherit(from: owner)
    }
    try file.device.sync()
    guard !isImage(name) else { return try take(name, for: file) }
    do { try file.place(replacing: false) } catch {
      // It may have its name already, where only the directory couldn't be synced.
      if file.device.hasName(name) { _ = unsafe unlink(name) }
      throw error
    }
    written.append(name)
  }

  /// Puts it into the image's place. The marker goes, too: what is there now is swtpm's.
  private func take(_ name: String, for file: NewFile) throws {
    let aside = name + ".vnvram"
    guard unsafe link(name, aside) == 0 else {
      guard errno != EEXIST else {
        throw Failure(.refused, "\(aside): is there already, and the image was to be kept there; move it away")
      }
      throw FileError(errno: errno, file: aside, "keeping the image there")
    }
    do {
      try file.place(replacing: true)
      // Last of all: without it and the image there would be a new TPM. Nothing is lost if a power cut brings it back.
      let marker = StateMarker(image: name)
      guard unsafe unlink(marker.path) == 0 || errno == ENOENT else {
        throw FileError(errno: errno, file: marker.path, "removing it, now that swtpm's state is there,")
      }
    } catch { throw putBack(aside, name, file, after: error) }
    (taken, kept) = ([name], aside)
  }

  /// Gives the image its place back, whether it lost it or not.
  ///
  /// - Returns: the error to throw, which says where the image is.
  private func putBack(_ aside: String, _ name: String, _ file: NewFile, after error: any Error) -> Failure {
    let failure = Failure(error)
    guard unsafe rename(aside, name) == 0 else {
      // The other states belong to the one that stays.
      if file.device.hasName(name) { written = [] }
      return Failure(
        failure.status,
        "\(failure); the image is \(aside), and couldn't be given its name back: do so with `mv \(Text.escaped(aside)) "
          + "\(Text.escaped(name))`")
    }
    // Both names are the image's where it never lost its own: then nothing was renamed.
    _ = unsafe unlink(aside)
    do throws(BlockError) { try FileDevice.syncDirectory(containing: name) } catch {
      return Failure(
        failure.status,
        "\(failure); the image has its place again, but that is not durable (\(error)): after a power cut look for it in \(aside), too"
      )
    }
    return Failure(failure.status, "\(failure); the image has its place again, as it was")
  }
}
