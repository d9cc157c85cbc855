import BlockIO
import Glibc
import Primitives
import ProgramIO
import SecureVolume
import SwtpmFormat

/// Where swtpm keeps a TPM's state: a directory or a single file. Locked against swtpm while this is there, as far as
/// swtpm looks at locks, and never written to, except by `remove`, which leaves alone what isn't as it was read. Where
/// the image takes the permanent state's own place, it makes way for it, and is kept under another name until it is
/// removed, if it is.
///
/// Nothing is read before it is known to be a regular file of a size that a state can have; symbolic links within the
/// directory are not followed, since whoever may write there needn't be who may read what they lead to.
final class SwtpmSource {
  let path: String
  let version: SwtpmVersion?
  let isSingleFile: Bool
  /// Whether the image takes its place.
  let isInPlace: Bool
  /// The owner of the permanent state, for the image that takes its place.
  let owner: stat
  /// Whether all of it is kept beside the image that takes its place.
  private let isKept: Bool
  private let files: [SwtpmSourceFile]
  /// Where a state could be, and none was.
  private let missing: [String]
  /// Held for its lock alone.
  private let lock: SwtpmLock?

  /// - Parameters:
  ///   - version: what was asked for; nil to find out.
  ///   - image: where the image is to be, which may be the permanent state's own place.
  /// - Throws: `.notAnImage` where there is no swtpm state; `.inUse`; `.refused` for what can't be told.
  init(_ path: String, version: SwtpmVersion?, image: String, removing: Bool) throws {
    var status = stat()
    guard unsafe stat(path, &status) == 0 else { throw FileError(errno: errno, file: path, "looking for it") }
    self.path = path
    switch status.st_mode & S_IFMT {
    case S_IFDIR:
      isSingleFile = false
      let lock = try SwtpmLock.take(in: path)
      let found = try Self.version(in: path, version)
      self.version = found
      isInPlace = try Self.isOne("\(path)/\(found.fileName(.permall))", image)
      isKept = isInPlace && !removing
      let removing = removing || isInPlace
      var (files, missing): ([SwtpmSourceFile], [String]) = ([], [])
      for kind in found.states {
        let (limit, name) = (SwtpmContainer.maximumSize, path + "/" + found.fileName(kind))
        if let file = try SwtpmSourceFile(name, kind, limit: limit, removing: removing) {
          files.append(file)
        } else {
          missing.append(name)
        }
      }
      guard let first = files.first, first.kind == .permall else { throw Self.none(path) }
      (self.files, self.missing, owner) = (files, missing, first.status)
      self.lock = lock == nil && removing ? try SwtpmLock.make(in: path, owner: first.status) : lock
    default:
      isSingleFile = true
      isInPlace = try Self.isOne(path, image)
      isKept = isInPlace && !removing
      let removing = removing || isInPlace
      (lock, missing) = (nil, [])
      self.version = version
      guard let file = try SwtpmSourceFile(path, nil, limit: SwtpmSingleFile.maximumSize, removing: removing) else {
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

  /// Whether the image's place is the state's.
  ///
  /// - Throws: `.refused` for a link to the state, symbolic or hard: that alone would become the image.
  private static func isOne(_ place: String, _ image: String) throws(Failure) -> Bool {
    var (one, other) = (stat(), stat())
    guard unsafe stat(place, &one) == 0, unsafe stat(image, &other) == 0, isSame(one, other) else { return false }
    let isFile = unsafe lstat(image, &other) == 0 && other.st_mode & S_IFMT == S_IFREG && isSame(one, other)
    guard isFile, unsafe lstat(place, &one) == 0, isSame(one, other), name(of: place) == name(of: image) else {
      throw Failure(
        .refused, "\(image): is a link to swtpm's state, or swtpm's name for it is one; name the file itself")
    }
    return true
  }

  private static func isSame(_ one: stat, _ other: stat) -> Bool {
    one.st_dev == other.st_dev && one.st_ino == other.st_ino
  }

  private static func name(of path: String) -> Substring { path.split(separator: "/").last ?? "" }

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
      guard ImageBeginning(bytes.span) != .image else {
        throw Failure(.refused, "\(file.path): is an image already, and no state of swtpm's")
      }
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

  // MARK: Making way for an image in its place

  /// Gives `place` the permanent state's name to take, if all of the source is still what was read. swtpm's file is
  /// kept under another name; so the place always has one of the two.
  ///
  /// - Throws: `.inUse` where the source changed, and what `place` throws: then all is as it was.
  func makeWay(_ place: () throws -> Void) throws {
    do { try checkUnchanged() } catch {
      throw Failure(error.status, "\(error); nothing was changed; once no swtpm runs on it, import it again")
    }
    for file in isKept ? files : [files[0]] where try NewFile.isTaken(file.keptPath) {
      throw Failure(
        .refused,
        "\(file.keptPath): is there already, and swtpm's state was to be kept there; move it away; nothing was changed")
    }
    try files[0].keep()
    do { try place() } catch {
      if files[0].hasItsName {
        files[0].unkeep()
        throw error
      }
      let (failure, path, kept) = (Failure(error), files[0].path, files[0].keptPath)
      throw Failure(
        failure.status,
        "\(failure); the image has swtpm's place, but perhaps not durably, and what swtpm had is kept in \(kept): once the disk is "
          + "sound, `mv \(Text.escaped(kept)) \(Text.escaped(path))`, and import it again")
    }
    files[0].hasMadeWay()
  }

  /// The states beside the permanent one go to where that is kept: without it they are of no use, and would only be in
  /// the way.
  func moveRestAside() throws {
    for file in files.dropFirst() {
      do { try file.moveAside() } catch {
        let failure = Failure(error)
        throw Failure(
          failure.status,
          "the image is made and verified, but \(failure); swtpm's other files are of no use to it: move them away")
      }
    }
  }

  /// Where swtpm's files are kept.
  var kept: [String] { files.map(\.path) }

  // MARK: Removing

  private func checkUnchanged() throws(Failure) {
    do {
      for file in files { try file.checkUnchanged() }
      for name in missing where Self.exists(name) { throw SwtpmSourceFile.newer(name) }
    } catch { throw Failure(error) }
  }

  /// Overwrites the files, and removes them; durable on return. The permanent state goes last: without it the others
  /// are of no use, and swtpm would make a new TPM. Nothing is touched unless all of it is what was read, and nobody
  /// has it open: minutes may have passed, with a passphrase being typed.
  ///
  /// - Parameter image: where what was read is now.
  /// - Throws: `.inUse` where the source is newer than the image, or may be; what is left is named.
  func remove(image: String) throws {
    // In its own place the image has what was there when it took that.
    if !isInPlace {
      do { try checkUnchanged() } catch {
        throw Failure(
          error.status,
          "\(error); the image is made and verified, but the source is newer than the image, or may be: nothing of it was "
            + "removed. Once no swtpm runs on it, import it again: `vnvram import-swtpm \(Text.escaped(path)) "
            + "\(Text.escaped(image)) --force --remove-source`")
      }
    }
    for file in files.reversed() { try file.remove() }
  }
}
