import ArgumentParser
import Audit
import BlobStore
import BlockIO
import Glibc
import Primitives
import ProgramIO
import SecureVolume

/// `vnvram salvage`: out of a damaged image, each entry that still verifies. The image isn't touched.
struct SalvageCommand: Subcommand {
  static let configuration = CommandConfiguration(
    commandName: "salvage", abstract: "Recover the entries of a damaged image that still verify, into a new folder.",
    discussion: """
      The folder gets a file for each entry, decrypted, readable by its owner alone, and manifest.json, which says what \
      was verified of each: "whole"; "earlier": whole, and whether there was a later state nothing tells; "sectors": every \
      sector verifies by itself, but nothing tells whether they are of the same moment; "damaged": not recovered. \
      `vnvram import` puts the files into a new image.

      Where the stream's own account of an entry is damaged, those behind it are found only if you say with --profile and \
      --entry what the image was formatted with. Exit status 6: not all entries were recovered.

      EXAMPLE
        vnvram salvage web-1.img recovered --profile tpm2
      """)

  @Argument(help: "The image.", completion: .file())
  var image: String
  @Argument(help: "The folder, which is made.", completion: .directory)
  var folder: String
  @OptionGroup var entries: EntryOptions
  @OptionGroup var key: KeyOptions
  @OptionGroup var audit: AuditOptions
  @OptionGroup var output: OutputOptions

  func perform() throws -> Answer {
    let device = try FileDevice.open(path: image, access: .readOnly)
    let opened = try OpenedImage(
      device, for: .salvage, unlock: try key.unlock(), audit: { try audit.log() })
    let volume = try opened.encrypted(for: "salvage")
    let specifications = try entries.specifications()
    let stream = try SalvagedStream(volume, layout: specifications.isEmpty ? nil : try entries.layout())
    let target = try SalvageFolder(folder)
    var report = SalvageReport(image: image, folder: folder, volume: volume, problem: stream.problem)
    do {
      try audit.log().record(
        AuditRecord(
          .exported, store: image, uuid: volume.uuid, access: .read,
          detail: "salvaged entries, into \(Path.absolute(folder))"))
      for (index, entry) in stream.entries.enumerated() {
        let damaged = stream.damagedSectors(of: entry)
        var file: String?
        if damaged.isEmpty { file = try target.write(entry, of: stream, index: index, json: output.json) }
        report.entries.append(SalvageReport.Item(entry: entry, damaged: damaged, file: file))
      }
      try target.writeManifest(report.manifest)
    } catch {
      target.remove()
      throw error
    }
    var answer = report.answer
    answer.warnings = opened.keyWarnings + opened.closingWarnings + answer.warnings
    return answer
  }
}

/// The folder that recovered entries go to.
final class SalvageFolder {
  private let path: String
  /// What is in it, whole.
  private var files: [String] = []

  /// - Throws: `.refused` where something is there.
  init(_ path: String) throws {
    self.path = path
    for directory in [path, path + "/entries"] {
      guard unsafe mkdir(directory, 0o700) == 0 else {
        guard errno != EEXIST else { throw Failure(.refused, "\(path): exists already; name a new folder") }
        let error = FileError(errno: errno, file: directory, "making it")
        if directory != path { _ = unsafe rmdir(path) }
        throw error
      }
    }
  }

  /// Writes an entry; returns the file's name within the folder.
  func write(_ entry: SalvagedStream.Found, of stream: SalvagedStream, index: Int, json: Bool) throws -> String {
    let name = "entries/" + Self.fileName(entry.name.text, index: index)
    var file = try OutputFile(path: "\(path)/\(name)")
    var progress = ProgressLine(entry.name.text, total: entry.count.value, json: json)
    var window = ByteBuffer(count: 1 << 18)
    var offset: UInt64 = 0
    while offset < entry.count.value {
      let count = try stream.read(entry, at: offset, into: window.mutableSpan)
      try file.write(window.span(0..<count))
      offset += UInt64(count)
      progress.update(offset)
    }
    try file.finish()
    files.append(name)
    return name
  }

  /// Takes it away again, with what this object put into it: half of what could be recovered would pass for all of it.
  func remove() {
    for name in files { _ = unsafe unlink("\(path)/\(name)") }
    _ = unsafe rmdir(path + "/entries")
    _ = unsafe rmdir(path)
  }

  func writeManifest(_ manifest: JSON) throws {
    var file = try OutputFile(path: path + "/manifest.json")
    try file.write(manifest.text + "\n")
    try file.finish()
    files.append("manifest.json")
  }

  /// An entry's name as a file's: letters, digits, `_`, `-` and inner dots as they are, every other byte as `%XX`.
  /// Where that is longer than a file's name may be, its beginning and the entry's number, after a `~`.
  static func fileName(_ name: String, index: Int) -> String {
    var text = ""
    for byte in name.utf8 {
      switch byte {
      case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x5F, 0x2D: text.unicodeScalars.append(Unicode.Scalar(byte))
      case 0x2E where !text.isEmpty: text += "."
      default: text += "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
      }
    }
    return text.utf8.count <= 200 ? text : "\(text.prefix(200))~\(index)"
  }
}
