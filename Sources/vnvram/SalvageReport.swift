import BlobStore
import Primitives
import SecureVolume

/// What came of salvaging an image.
struct SalvageReport {
  struct Item {
    let entry: SalvagedStream.Found
    /// Its sectors that don't verify.
    let damaged: [SectorIndex]
    /// `nil` where it wasn't recovered.
    let file: String?
  }

  let image: String
  let folder: String
  let volume: SecureVolume
  /// Why there may be more entries.
  let problem: String?
  var entries: [Item] = []

  /// What is known of every entry that was recovered.
  private var verified: String {
    let report = volume.opening
    if report.trust == .sectors { return "sectors" }
    return report.findings.contains { $0.severity == .damage } ? "earlier" : "whole"
  }

  private func verified(_ item: Item) -> String { item.file == nil ? "damaged" : verified }

  private var fields: [(String, JSON)] {
    [
      ("image", .string(image)), ("uuid", .string(volume.uuid.description)),
      ("generation", volume.opening.trust == .tree ? .unsigned(volume.opening.generation.value) : .null),
      ("findings", .array(volume.opening.findings.map(CheckReport.json))),
      ("problem", problem.map { .string($0) } ?? .null),
      (
        "entries",
        .array(
          entries.map { item in
            .object([
              ("name", .string(item.entry.name.text)), ("capacity", .unsigned(item.entry.capacity.value)),
              ("size", item.entry.size.map { .unsigned($0.value) } ?? .null),
              ("verified", .string(verified(item))), ("file", item.file.map { .string($0) } ?? .null),
              // The first hundred tell where; the number tells how bad it is.
              ("damaged_sectors", .array(item.damaged.prefix(100).map { .unsigned($0.value) })),
              ("damaged_count", .integer(Int64(item.damaged.count))),
            ])
          })
      ),
    ]
  }

  var manifest: JSON { .object(fields) }

  var answer: Answer {
    var answer = Answer()
    answer.text =
      entries.isEmpty
      ? []
      : Text.table(
        [["SIZE", "VERIFIED", "NAME", "FILE"]]
          + entries.map {
            [$0.entry.size.map { "\($0.value)" } ?? "?", verified($0), $0.entry.name.text, $0.file ?? "-"]
          }, right: [0])
    answer.fields = fields + [("folder", .string(folder))]
    answer.warnings = volume.opening.findings.map { "\(image): \($0.detail), at \($0.offset)" } + freshness
    let lost = entries.count { $0.file == nil }
    guard lost > 0 || problem != nil else { return answer }
    var message = "\(image): "
    if lost > 0 { message += "\(lost) of \(Text.count(entries.count, "entry", "entries")) could not be recovered" }
    if let problem { message += (lost > 0 ? "; " : "") + problem }
    if problem != nil {
      message += "; say with --profile and --entry what the image was formatted with, if you know it"
    }
    answer.failure = Failure(.notAuthentic, message, fields: [("lost", .integer(Int64(lost)))])
    return answer
  }

  private var freshness: [String] {
    switch verified {
    case "sectors":
      [
        "\(image): each sector verifies by itself; nothing tells whether those of an entry are of the same moment, or old"
      ]
    case "earlier":
      ["\(image): what was recovered is of \(volume.opening.generation); nothing tells whether there was a later state"]
    default: []
    }
  }
}
