import Glibc
import ProgramIO
import SwtpmFormat
import VTPM

/// `--profile`: which profile a new TPM 2.0 is to have. There is one, "null" (`TPMProfile`); another is refused, since
/// the TPM would have commands and algorithms other than those that were asked for.
///
///     name=NAME | profile={…} | file=FILE | fd=N, and remove-disabled=check|fips-host
///
/// Facts from swtpm 0.10: a value that begins with a brace goes on to the one that closes it, commas and all; what is
/// read is one JSON object of at most 10 KiB; `remove-disabled` changes the profile "custom" alone; a TPM 1.2 heeds
/// none of it, and swtpm_setup passes it there, too.
struct ProfileOption {
  enum Source: Equatable {
    case name(String)
    case json(String)
    case file(String)
    case descriptor(Int32)
  }

  let source: Source
  private static let limit = 10 * 1024 - 1

  /// Nothing is read yet.
  init(parsing text: String) throws(TPMError) {
    let option = OptionName.profile.rawValue
    var sources: [Source] = []
    let (json, rest) = try Self.cutJSON(out: text)
    if let json { sources.append(.json(json)) }
    if json == nil || !rest.isEmpty {
      var list = try KeyValueList<TPMError>(rest, option: option)
      if let name = try list.value("name") { sources.append(.name(name)) }
      if let json = try list.value("profile") { sources.append(.json(json)) }
      if let path = try list.value("file") { sources.append(.file(path)) }
      if let number = try list.number("fd", 0...Int32.max) { sources.append(.descriptor(number)) }
      if let way = try list.value("remove-disabled"), way != "check", way != "fips-host" {
        throw .usage("\(option): remove-disabled is check or fips-host")
      }
      try list.finish()
    }
    guard let source = sources.first, sources.count == 1 else {
      throw .usage("\(option): say one of name=, profile=, file= and fd=")
    }
    self.source = source
  }

  /// The object after `profile=`, and the text without it.
  private static func cutJSON(out text: String) throws(TPMError) -> (json: String?, rest: String) {
    let bytes = Array(text.utf8)
    let mark = Array("profile={".utf8)
    let starts = bytes.indices.filter { $0 == 0 || bytes[$0 - 1] == UInt8(ascii: ",") }
    guard let start = starts.first(where: { bytes[$0...].starts(with: mark) }) else { return (nil, text) }
    var depth = 0
    for index in (start + mark.count - 1)..<bytes.count {
      if bytes[index] == UInt8(ascii: "{") { depth += 1 }
      if bytes[index] == UInt8(ascii: "}") { depth -= 1 }
      guard depth == 0 else { continue }
      guard index + 1 == bytes.count || bytes[index + 1] == UInt8(ascii: ",") else { break }
      var rest = Array(bytes[..<start])
      rest += index + 1 == bytes.count ? [] : bytes[(index + 2)...]
      if rest.last == UInt8(ascii: ",") { rest.removeLast() }
      return (
        String(decoding: bytes[(start + mark.count - 1)...index], as: UTF8.self), String(decoding: rest, as: UTF8.self)
      )
    }
    throw .usage("\(OptionName.profile.rawValue): the object after profile= doesn't end, or something follows it")
  }

  /// Reads what it names, and throws where that isn't the profile that there is.
  func check(for version: TPMVersion) throws(TPMError) {
    guard version == .tpm2 else { return }
    switch source {
    case .name(let name): try ProfileObject(name: name).check()
    case .json(let text): try ProfileObject.check(Array(text.utf8), from: "profile=")
    case .file(let path): try Self.check(name: path) { () throws(FileError) in try InputFile(path: path) }
    case .descriptor(let number):
      defer { if number > 2 { close(number) } }
      try Self.check(name: "descriptor \(number)") { InputFile(descriptor: number, name: "descriptor \(number)") }
    }
  }

  /// Reads up to the object's end, and not for more: whoever wrote it may keep its end of a pipe open.
  private static func check(name: String, _ open: () throws(FileError) -> InputFile) throws(TPMError) {
    var content: [UInt8] = []
    do throws(FileError) {
      let file = try open()
      var byte: [UInt8] = [0]
      while try file.read(into: byte.mutableSpan) == 1 {
        guard content.count < limit else {
          throw FileError(EFBIG, file: name, detail: "has more than \(limit) bytes; is it the right one?")
        }
        content.append(byte[0])
        if byte[0] == UInt8(ascii: "}"), ProfileObject(content) != nil { break }
      }
    } catch { throw .usage("\(OptionName.profile.rawValue): \(error)") }
    try ProfileObject.check(content, from: name)
  }
}
