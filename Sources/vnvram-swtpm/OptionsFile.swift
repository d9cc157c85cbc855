import Glibc
import Primitives
import ProgramIO
import VTPM

/// Options that an operator gives to every vnvram-swtpm of a host, whatever starts it: one a line, as on the command
/// line. Lines that begin with # and empty ones don't count. The command line has the last word, but for a line that
/// begins with `always`: its option can't be given there with another value. Neither can those of the standard file be
/// lost by naming another file.
///
/// It decides which key opens images and whether uses of it are recorded, so it must be a regular file that belongs to
/// root or to the process's own user, and that nobody else may write to. An empty or unreadable path is an error and
/// never "no file": only the standard one may be absent.
struct OptionsFile {
  struct Line {
    let number: Int
    let name: OptionName
    let value: String?
    /// Not for the command line to change: `always`, or an option that can't be taken back.
    let isFixed: Bool
  }

  static let standardPath = "/etc/vnvram/vnvram-swtpm.options"
  /// The environment's word for another one; `none` or nothing at all for none.
  static let variable = "VNVRAM_SWTPM_OPTIONS"
  private static let limit = 16 << 10

  let path: String
  private(set) var lines: [Line] = []

  /// The word before an option that the command line can't change.
  private static let fixing = "always"

  /// The standard file and, in the place of what it doesn't fix, that which the environment names; those that there
  /// are.
  static func all() throws -> [OptionsFile] {
    var standard = try standard()
    // Who starts a set-user-ID program may not say what its options are.
    let mayAsk = getuid() == geteuid() && getgid() == getegid()
    if mayAsk, let value = unsafe getenv(variable) {
      let path = unsafe String(cString: value)
      standard?.lines.removeAll { !$0.isFixed }
      let other = path.isEmpty || path == "none" ? nil : try OptionsFile(path)
      return [standard, other].compactMap { $0 }
    }
    return standard.map { [$0] } ?? []
  }

  private static func standard() throws -> OptionsFile? {
    var status = stat()
    if unsafe lstat(standardPath, &status) != 0, errno == ENOENT || errno == ENOTDIR { return nil }
    return try OptionsFile(standardPath)
  }

  private init(_ path: String) throws {
    self.path = path
    let text = try Self.content(path)
    var number = 0
    // Byte by byte: to Swift a carriage return and a newline are one character.
    for line in text.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false) {
      number += 1
      let words = Self.trimmed(Substring(line))
      guard !words.isEmpty, !words.hasPrefix("#") else { continue }
      lines.append(try option(words, number))
    }
  }

  /// Where a line is, for messages.
  func place(_ line: Line) -> String { "\(path), line \(line.number)" }

  /// `--option value` or `--option=value`, and perhaps `always` before it.
  private func option(_ line: Substring, _ number: Int) throws(TPMError) -> Line {
    let place = "\(path), line \(number)"
    var line = line
    let isFixed =
      line.hasPrefix(Self.fixing) && line.dropFirst(Self.fixing.count).first.map { " \t".contains($0) } == true
    if isFixed { line = Self.trimmed(line.dropFirst(Self.fixing.count)) }
    let end = line.firstIndex { $0 == " " || $0 == "\t" || $0 == "=" } ?? line.endIndex
    let name: OptionName
    do throws(TPMError) { name = try ArgumentReader.known(String(line[..<end])) } catch {
      throw .usage("\(place): \(error)")
    }
    guard name.mayBeInFile else {
      let those = OptionName.allCases.filter(\.mayBeInFile).map(\.rawValue).joined(separator: ", ")
      throw .usage("\(place): \(name.rawValue) is for the command line only; a file of options may have \(those)")
    }
    let value = end == line.endIndex ? nil : String(Self.trimmed(line[line.index(after: end)...]))
    guard name.argument != .required || value?.isEmpty == false else {
      throw .usage("\(place): \(name.rawValue) needs a value")
    }
    guard name.argument != .none || value == nil else { throw .usage("\(place): \(name.rawValue) takes no value") }
    // Each process has a working directory of its own.
    if name == .audit || name == .anchor, let value, Self.isRelative(value, name) {
      throw .usage("\(place): \(name.rawValue) needs a path from the root, not \"\(value)\"")
    }
    return Line(number: number, name: name, value: value, isFixed: isFixed || name.argument == .none)
  }

  private static func isRelative(_ value: String, _ name: OptionName) -> Bool {
    if value == "none" || value.hasPrefix("/") { return false }
    if name == .anchor, value.hasPrefix("generation:") { return false }
    if name == .anchor, value.hasPrefix("tpm:") {
      // tpm:INDEX,FILE
      return !value.split(separator: ",", maxSplits: 1).dropFirst().allSatisfy { $0.hasPrefix("/") }
    }
    return true
  }

  private static func trimmed(_ text: Substring) -> Substring {
    let isBlank = { (character: Character) in character == " " || character == "\t" || character == "\r" }
    var text = text.drop(while: isBlank)
    while let last = text.last, isBlank(last) { text.removeLast() }
    return text
  }

  // MARK: - The file itself

  private static func content(_ path: String) throws -> String {
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)
    guard descriptor >= 0 else {
      guard errno != EACCES else {
        throw OptionsFileError(
          "\(path): may not be read by user \(geteuid()), who runs this program, and may have options for it: chmod 644 it, "
            + "and its folder 755")
      }
      throw FileError(errno: errno, file: path, "opening the file of options")
    }
    defer { close(descriptor) }
    var status = stat()
    guard unsafe fstat(descriptor, &status) == 0 else { throw FileError(errno: errno, file: path, "looking at it") }
    try check(status, path)
    var bytes = [UInt8](repeating: 0, count: limit + 1)
    let count = try InputFile(descriptor: descriptor, name: path).read(into: bytes.mutableSpan)
    guard count <= limit else { throw TPMError.usage("\(path): a file of options has at most \(limit) bytes") }
    guard let text = String(validating: bytes[..<count], as: UTF8.self), !bytes[..<count].contains(0) else {
      throw TPMError.usage("\(path): is not a text in UTF-8, as a file of options must be")
    }
    return text
  }

  private static func check(_ status: stat, _ path: String) throws(OptionsFileError) {
    do { try FileDistrust.check(file: status) } catch {
      switch error {
      case .symbolicLink, .noRegularFile: throw OptionsFileError("\(path): is no regular file")
      case .foreignOwner(let user):
        throw OptionsFileError(
          "\(path): belongs to user \(user), who could decide over keys with it; it must be root's, or that of who "
            + "runs this program (\(geteuid())): chown it")
      case .writableByOthers:
        throw OptionsFileError(
          "\(path): others than its owner may write to it, and could decide over keys with it: chmod go-w it")
      }
    }
  }
}

/// A file of options that isn't to be trusted, or that doesn't allow what is asked for.
struct OptionsFileError: StatusError {
  let description: String
  var status: Status { .refused }

  init(_ description: String) { self.description = description }
}
