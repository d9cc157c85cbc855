import ArgumentParser
import Audit
import Primitives
import ProgramIO

/// `vnvram marker forget`: a new TPM may be made where there was one.
struct MarkerForgetCommand: Subcommand {
  static let configuration = CommandConfiguration(
    commandName: "forget", abstract: "Forget that an image was made in a file or device.",
    discussion: """
      All markers of the path go, whatever device it was, and those that the device that is there now has under other paths, \
      and this is recorded. If the path is blank, or isn't there, the next \
      start of vnvram-swtpm with --make-on-first-use makes a new TPM in it: what the old one protected can't be had with that. An \
      image that is there stays, and gets a marker again when it is used.

      EXAMPLE
        vnvram marker forget /dev/pve/vm-100-disk-1
      """)

  @Argument(help: "The file or device, as --tpmstate has it.", completion: .file())
  var path: String
  @OptionGroup var audit: AuditOptions
  @OptionGroup var output: OutputOptions

  func perform() throws -> Answer {
    let path = Path.folded(Path.absolute(path))
    let all = try HostMarkers()
    var markers = try all.of(path: path)
    if let device = DeviceIdentity.of(path) {
      markers += try all.concerning(path: path, device: device).filter { $0.path != path }
    }
    guard !markers.isEmpty else {
      throw Failure(.notFound, "\(path): has no marker; `vnvram marker list` shows what has")
    }
    let log = try audit.log()
    for marker in markers {
      let device = marker.device.isEmpty ? "" : ", \(marker.device)"
      try log.record(
        AuditRecord(
          .markerForgotten, store: marker.path,
          detail: "an image was made in it\(marker.isUsed ? " and used" : "")\(device); a new TPM may be made there"))
      try marker.remove()
    }
    let others = markers.map(\.path).filter { $0 != path }
    return Answer(
      text: ["\(Text.escaped(path)): forgotten; where it is blank a new TPM may be made in it"]
        + others.map { "\(Text.escaped($0)): forgotten, too; it is the same device" },
      fields: [("path", .string(path)), ("forgotten", .integer(Int64(markers.count)))])
  }
}
