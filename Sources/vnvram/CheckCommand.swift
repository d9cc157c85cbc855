import ArgumentParser
import BlobStore
import Primitives
import SecureVolume

/// `vnvram check`: verifies every byte of an image that has a meaning, and names what is wrong and where.
struct CheckCommand: Subcommand {
  static let configuration = CommandConfiguration(
    commandName: "check", abstract: "Verify every byte of an image; name what is wrong, and where.",
    discussion: """
      Changes nothing. Where something is damaged, it goes on to name everything else that is.

      EXAMPLE
        vnvram check web-1.img
      """)

  @Argument(help: "The image.", completion: .file())
  var image: String
  @OptionGroup var opening: OpenOptions
  @OptionGroup var output: OutputOptions

  func perform() throws -> Answer {
    let opened = try opening.open(image)
    var answer = Answer(warnings: opened.warnings)
    var findings: [VolumeFinding] = []
    var sectors: UInt64 = 0
    if case .encrypted(let volume) = opened.volume {
      sectors = volume.sectorCount
      let size = UInt64(volume.sectorSize)
      let progress = ProgressLine("checking", total: sectors * size, json: output.json)
      findings = try volume.check { progress.update($0 * size) }
    }
    // A header copy that is behind is what a power cut leaves; the image can be trusted nevertheless.
    let damage = findings.filter { $0.evidence != .headerPair }
    answer.warnings += findings.filter { $0.evidence == .headerPair }.map { "\(image): \($0.detail), at \($0.offset)" }
    var entries: Int?
    if damage.isEmpty {
      try opened.store.check()
      entries = try opened.store.entries.count
    }
    answer.fields = [
      ("image", .string(image)), ("sectors", .unsigned(sectors)),
      ("entries", entries.map { .integer(Int64($0)) } ?? .null),
      ("findings", .array(findings.map(Self.json))),
    ]
    guard !damage.isEmpty else {
      answer.text = [
        "\(image): every byte is as it was written: "
          + "\(Text.count(Int(sectors), "sector", "sectors")), \(Text.count(entries ?? 0, "entry", "entries"))"
      ]
      return answer
    }
    answer.text = damage.map { "\(image): \($0.detail), at \($0.offset)" }
    answer.failure = Failure(
      .notAuthentic,
      "\(image): \(damage.count) of \(sectors) sectors are damaged or were changed; restore it from a backup",
      fields: [("reason", .string(damage.first?.evidence.rawValue ?? ""))])
    return answer
  }

  private static func json(_ finding: VolumeFinding) -> JSON {
    .object([
      ("reason", .string(finding.evidence.rawValue)), ("offset", .unsigned(finding.offset.value)),
      ("sector", finding.sector.map { .unsigned($0.value) } ?? .null), ("detail", .string(finding.detail)),
    ])
  }
}
