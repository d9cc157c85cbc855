import Glibc
import ProgramIO
import SwtpmFormat

/// `--tpmstate`: where the TPM's state lies. Paths are absolute from here on: who goes to another folder later
/// (`--daemon`) or opens the image again (`--migration`) means the same file.
public struct StateLocation: Sendable, Equatable {
  public enum Place: Sendable, Equatable {
    /// `backend-uri=vnvram://IMAGE`: an image that was made before.
    case image(String)
    /// `dir=DIR` or `backend-uri=dir://DIR`: a folder for one image of each version, made on first use.
    case directory(String)
    /// `backend-uri=file://PATH`: a file or block device that is an image, or is made one where the options say so.
    case file(String)
  }

  public let place: Place
  /// The permissions of an image that is made.
  public private(set) var mode: mode_t = 0o600

  private static let imageScheme = "vnvram://"
  private static let directoryScheme = "dir://"
  private static let fileScheme = "file://"

  /// Parses `dir=DIR[,mode=0600][,lock][,fsync][,backup]`, and `backend-uri=` with `dir://DIR`, `file://PATH` or
  /// `vnvram://IMAGE` in its place.
  public init(parsing text: String) throws(TPMError) {
    var list = try KeyValueList<TPMError>(text, option: "--tpmstate")
    let directory = try list.value("dir")
    let uri = try list.value("backend-uri")
    guard (directory == nil) != (uri == nil) else {
      throw .usage("--tpmstate: say either dir=DIR, or backend-uri= with dir://DIR, file://PATH or vnvram://IMAGE")
    }
    if let directory {
      place = .directory(try Self.absolute(directory, "dir=\(directory)"))
    } else {
      place = try Self.place(uri ?? "")
    }
    try Self.takeWhatAlwaysHolds(&list)
    if let mode = try list.value("mode") {
      guard mode.utf8.count <= 5, let bits = mode_t(mode, radix: 8), bits <= 0o777, bits & 0o600 == 0o600 else {
        throw .usage("--tpmstate: mode is octal, at most 0777, and lets the owner read and write")
      }
      self.mode = bits
    }
    try list.finish()
  }

  /// swtpm's words for what an image does anyway: it is locked, synced, and comes out of a power cut as one of its
  /// states, for which swtpm's `backup` keeps a second file. One that asks for less is refused.
  private static func takeWhatAlwaysHolds(_ list: inout KeyValueList<TPMError>) throws(TPMError) {
    guard try list.choice("lock") ?? true else {
      throw .usage("--tpmstate: lock=false is not for an image, which two servers would ruin; leave it out")
    }
    _ = try list.flag("fsync")
    _ = try list.flag("backup")
  }

  private static func place(_ uri: String) throws(TPMError) -> Place {
    if uri.hasPrefix(imageScheme) { return .image(try absolute(uri.dropFirst(imageScheme.count), uri)) }
    if uri.hasPrefix(directoryScheme) { return .directory(try absolute(uri.dropFirst(directoryScheme.count), uri)) }
    if uri.hasPrefix(fileScheme) { return .file(try absolute(uri.dropFirst(fileScheme.count), uri)) }
    throw .usage("--tpmstate: \"\(uri)\" is not of the form dir://DIR, file://PATH or vnvram://IMAGE")
  }

  private static func absolute(_ path: some StringProtocol, _ source: String) throws(TPMError) -> String {
    guard !path.isEmpty, !path.utf8.contains(0) else { throw .usage("--tpmstate: \"\(source)\" names nothing") }
    let absolute = Path.absolute(String(path))
    guard absolute.hasPrefix("/") else {
      throw .usage("--tpmstate: \"\(source)\" is relative to the working directory, which is gone; give the whole path")
    }
    return absolute
  }

  /// What `--keyring-key` means: `%u` stands for the UUID in the state's path, the last one that there is, in lower
  /// case; `%n` for the name of the state; `%%` for a percent sign.
  public func keyName(_ pattern: String, _ version: TPMVersion) throws(TPMError) -> String {
    var (name, rest) = ("", pattern[...])
    while let character = rest.popFirst() {
      guard character == "%" else {
        name.append(character)
        continue
      }
      switch rest.popFirst() {
      case "%": name.append("%")
      case "u":
        guard let uuid = Self.lastUUID(in: image(for: version)) else {
          throw .usage("--keyring-key: %u stands for the UUID in the state's path, and \(image(for: version)) has none")
        }
        name += uuid
      case "n": name += try self.name()
      default:
        throw .usage(
          "--keyring-key: a % goes before u, for the UUID in the state's path, before n, for the name of the state's folder, or "
            + "before another %")
      }
    }
    return name
  }

  /// The name of the state's folder; of the file or device itself, where it is one, since its folder is `/dev/pve` or
  /// the like, and says nothing of the machine.
  private func name() throws(TPMError) -> String {
    let path =
      switch place {
      case .directory(let path), .file(let path), .image(let path): path
      }
    guard let name = path.split(separator: "/").last(where: { $0 != "." }), name != ".." else {
      throw .usage("--keyring-key: %n stands for the name of the state's folder, and \(path) has none")
    }
    return String(name)
  }

  private static func lastUUID(in path: String) -> String? {
    let bytes = Array(path.utf8)
    let isDigit = { (byte: UInt8) in (0x30...0x39).contains(byte) || (0x61...0x66).contains(byte | 0x20) }
    for start in stride(from: bytes.count - 36, through: 0, by: -1) {
      let piece = bytes[start..<start + 36]
      let fits = piece.enumerated().allSatisfy { [8, 13, 18, 23].contains($0) ? $1 == 0x2D : isDigit($1) }
      // Not part of something longer.
      let before = start == 0 || !isDigit(bytes[start - 1])
      let after = start + 36 == bytes.count || !isDigit(bytes[start + 36])
      if fits, before, after { return String(decoding: piece, as: UTF8.self).lowercased() }
    }
    return nil
  }

  /// The image's path.
  public func image(for version: TPMVersion) -> String {
    switch place {
    case .image(let path), .file(let path): path
    case .directory(let folder):
      // Under swtpm's name: swtpm_setup, managers and scripts look for it, and swtpm itself ends with an error over it.
      (folder.hasSuffix("/") ? folder : folder + "/") + (version == .tpm2 ? "tpm2-00.permall" : "tpm-00.permall")
    }
  }
}
