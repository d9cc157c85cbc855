import ArgumentParser
import BlockIO
import Primitives
import SecureVolume
import VNVRAM

/// `vnvram status`: whether an image would open now, and if not, why. Writes nothing.
struct StatusCommand: Subcommand {
  static let configuration = CommandConfiguration(
    commandName: "status", abstract: "Tell whether an image opens with the keys that are there.",
    discussion: """
      The exit status tells the same: 0 it opens, 3 a key is missing, 4 wrong key, 5 a key is expired, revoked or not \
      permitted, 6 not authentic, 7 rolled back, 8 not an image, 9 in use by a running VM.

      EXAMPLE
        vnvram status web-1.img
      """)

  @Argument(help: "The image.", completion: .file())
  var image: String
  @OptionGroup var opening: OpenOptions
  @OptionGroup var output: OutputOptions

  func perform() throws -> Answer {
    var answer = Answer()
    do {
      let opened = try opening.open(image)
      _ = try opened.store
      answer.fields = [("image", .string(image)), ("state", "running")]
      guard case .encrypted(let volume) = opened.volume else {
        answer.text = ["running: it opens; it is not encrypted, and nothing in it is authentic"]
        answer.fields.append(("encrypted", false))
        return answer
      }
      answer.warnings = opened.keyWarnings
      let report = volume.opening
      answer.text = ["running: it opens, at \(report.generation)", Self.closing(report)]
      if let anchor = report.anchor {
        answer.text.append(
          "\(anchor.verdict.rawValue): its anchor \(Text.escaped(anchor.anchor)) remembers \(anchor.generation)")
        answer.fields.append(("anchor", .string(anchor.verdict.rawValue)))
      }
      answer.fields += [
        ("encrypted", true), ("uuid", .string(volume.uuid.description)),
        ("generation", .unsigned(report.generation.value)),
        ("closed_cleanly", .bool(report.wasClosedCleanly)),
        ("records_replayed", .integer(Int64(report.recordsReplayed))),
        ("header_copies_equal", .bool(report.outdatedHeaderCopy == nil)),
      ]
    } catch {
      let failure = Failure(error)
      guard failure.status != .usage else { throw failure }
      let state = failure.status == .keyMissing ? "key-pending" : failure.status.name
      answer.text = ["\(state)"]
      answer.fields = [("image", .string(image)), ("state", .string(state))]
      answer.failure = failure
    }
    return answer
  }

  private static func closing(_ report: OpeningReport) -> String {
    var text =
      report.wasClosedCleanly
      ? "closed cleanly" : "not closed cleanly: \(report.recordsReplayed) records of the journal count"
    if report.outdatedHeaderCopy != nil { text += "; one header copy is behind or damaged, the next writer mends it" }
    return text
  }
}
