import Primitives
import ProgramIO
import SwtpmFormat

/// Whether libtpms takes a TPM's states, tried before anything is stored or removed. vnvram-swtpm does it, in a process
/// of its own that nothing depends on: vnvram itself doesn't have libtpms, which other commands would load for nothing.
struct SwtpmTrial {
  /// NV indices that the TPM has, and persistent objects (nil for a TPM 1.2).
  let indices: Int
  let objects: Int?

  private static let program = "vnvram-swtpm"

  /// - Parameter source: for messages.
  /// - Throws: `.notAuthentic` where libtpms refuses them or crashes over them.
  init(_ states: [SwtpmState], _ version: SwtpmVersion, from source: String) throws {
    let path = try HelperProgram.path(of: Self.program)
    let outcome = try HelperProgram.run(path, ["load-states", version.rawValue]) { write in
      for state in states {
        guard let type = SwtpmStateKind.allCases.firstIndex(of: state.kind) else { continue }
        let count = UInt32(state.content.count)
        let head = [UInt8(type + 1)] + (0..<4).map { UInt8(truncatingIfNeeded: count >> (24 - 8 * UInt32($0))) }
        try write(head.span)
        try state.lend { try write($0.span) }
      }
    }
    let says = Text.escaped(Text.shortened(String(outcome.errors.prefix { $0 != "\n" }), to: 200))
    if outcome.status < 0 {
      throw Failure(
        .notAuthentic,
        "\(source): libtpms came to grief over this state (signal \(-outcome.status)): it is damaged, or \(path) is; nothing "
          + "was changed")
    }
    if outcome.status == Status.notAuthentic.rawValue {
      throw Failure(
        .notAuthentic,
        "\(source): libtpms doesn't load this state: it is damaged, or a later libtpms made it; nothing was changed "
          + "(\(says))")
    }
    let words = outcome.output.split(whereSeparator: { $0 == " " || $0 == "\n" })
    guard outcome.status == 0, words.count == 4, words[0] == "nv", words[2] == "persistent",
      let indices = Int(words[1]),
      let objects = Int(words[3])
    else {
      throw Failure(
        Status(rawValue: outcome.status).flatMap { $0 == .done ? nil : $0 } ?? .failed,
        "\(path): can't try the state: \(says.isEmpty ? "is it of another version?" : says); nothing was changed")
    }
    self.indices = indices
    self.objects = version == .tpm2 ? objects : nil
  }

  /// `2 NV indices and 1 persistent object`.
  var text: String {
    let indices = Text.count(indices, "NV index", "NV indices")
    return objects.map { "\(indices) and \(Text.count($0, "persistent object", "persistent objects"))" } ?? indices
  }

  var json: JSON {
    .object([
      ("nv_indices", .integer(Int64(indices))),
      ("persistent_objects", objects.map { .integer(Int64($0)) } ?? .null),
    ])
  }
}
