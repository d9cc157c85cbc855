import Primitives
import SecureVolume

/// What a check has to say: what is damaged or can't be read, which decides its outcome, and what else there is.
struct CheckReport {
  /// No damage, and still to be said.
  struct Notice {
    let code: String
    let offset: ByteOffset?
    /// Bytes.
    let count: UInt64?
    let detail: String
    /// The detail doesn't name what it is about.
    var isOfImage = true

    init(code: String, offset: ByteOffset?, count: UInt64?, detail: String, isOfImage: Bool = true) {
      self.code = code
      self.offset = offset
      self.count = count
      self.detail = detail
      self.isOfImage = isOfImage
    }

    init(_ finding: UnusedSpaceFinding) {
      self.init(
        code: finding.code.rawValue, offset: finding.offset, count: finding.count, detail: finding.detail)
    }

    /// What every image that was written to has.
    var isOrdinary: Bool { code == UnusedSpaceFinding.Code.oldCiphertext.rawValue }

    fileprivate func text(_ image: String) -> String {
      (isOfImage ? "\(image): " : "") + detail + (offset.map { ", at \($0)" } ?? "")
    }

    fileprivate var json: JSON {
      .object([
        ("code", .string(code)), ("offset", offset.map { .unsigned($0.value) } ?? .null),
        ("size", count.map { .unsigned($0) } ?? .null), ("detail", .string(detail)),
      ])
    }
  }

  let image: String
  let findings: [VolumeFinding]
  var notices: [Notice]
  var sectors: UInt64 = 0
  /// `nil` where the stream was not looked at.
  var entries: Int?
  /// Why the image doesn't open.
  var refusal: Failure?

  private var serious: [VolumeFinding] { findings.filter { $0.severity != .notice } }

  var answer: Answer {
    var answer = Answer()
    answer.warnings = findings.filter { $0.severity == .notice }.map { "\(image): \($0.detail), at \($0.offset)" }
    answer.warnings += notices.filter { !$0.isOrdinary }.map { $0.text(image) }
    answer.fields = [
      ("image", .string(image)), ("sectors", .unsigned(sectors)),
      ("entries", entries.map { .integer(Int64($0)) } ?? .null),
      ("findings", .array(findings.map(Self.json))), ("notices", .array(notices.map(\.json))),
    ]
    if let failure {
      answer.text = serious.map { "\(image): \($0.detail), at \($0.offset)" }
      answer.failure = failure
    } else {
      let counts = "\(Text.count(Int(sectors), "sector", "sectors")), \(Text.count(entries ?? 0, "entry", "entries"))"
      answer.text = [
        answer.warnings.isEmpty
          ? "\(image): every byte is as it was written: \(counts)"
          : "\(image): every sector and entry verifies: \(counts); see the warnings"
      ]
    }
    answer.text += notices.filter(\.isOrdinary).map { $0.text(image) }
    return answer
  }

  private var failure: Failure? {
    let failed = serious.reduce(0) { $0 + Int($1.sectorCount) }
    if let refusal {
      return Failure(
        refusal.status,
        refusal.message + "; \(Int(sectors) - failed) of \(Text.count(Int(sectors), "sector", "sectors")) verify"
          + (failed == 0 ? "" : ": `vnvram salvage` recovers the entries that lie in them"),
        fields: refusal.fields)
    }
    guard let first = serious.first else { return nil }
    guard let damage = serious.first(where: { $0.severity == .damage }) else {
      return Failure(
        .inputOutput,
        "\(image): \(Text.count(serious.count, "part", "parts")) of it can't be read; the rest is as it was written",
        fields: [("reason", .string(first.code.rawValue))])
    }
    return Failure(
      .notAuthentic,
      "\(image): \(failed) of \(sectors) sectors are damaged or were changed; restore it from a backup",
      fields: [("reason", .string(damage.code.rawValue))])
  }

  static func json(_ finding: VolumeFinding) -> JSON {
    .object([
      ("reason", .string(finding.code.rawValue)), ("severity", .string(finding.severity.rawValue)),
      ("offset", .unsigned(finding.offset.value)), ("sector", finding.sector.map { .unsigned($0.value) } ?? .null),
      ("sectors", .unsigned(finding.sectorCount)),
      ("detail", .string(finding.detail)),
    ])
  }
}
