import Foundation
import TestSupport
import Testing

/// Scripts with the output that they must have. A script is a file in Scripts: lines that begin with `$ ` are commands
/// for bash, run in an empty folder with a session keyring that other scripts don't use; what follows up to the next
/// blank line is what standard output and standard error must show, and `? N` the exit status where it isn't 0. What
/// differs from run to run (UUIDs, serial numbers, times, keys) is replaced by a word in capitals.
///
/// With VNVRAM_UPDATE_GOLDEN=1 the scripts are rewritten with what came out: look at the difference before you commit
/// it.
struct GoldenTests {
  static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("Scripts")
  static let names: [String] = {
    let all = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
    return all.filter { $0.hasSuffix(".txt") }.sorted()
  }()

  @Test("there are scripts") func scriptsAreThere() { #expect(Self.names.count >= 8) }

  @Test("golden output", arguments: names)
  func script(_ name: String) throws {
    let file = Self.folder.appendingPathComponent(name)
    let wanted = try String(contentsOf: file, encoding: .utf8)
    let workspace = try Workspace()
    var actual = ""
    var isOutput = false
    for line in wanted.split(separator: "\n", omittingEmptySubsequences: false) {
      if line.hasPrefix("$ ") {
        actual += line + "\n" + (try Self.run(String(line.dropFirst(2)), workspace))
        isOutput = true
      } else if line.isEmpty || line.hasPrefix("# ") {
        isOutput = false
        actual += line + "\n"
      } else if !isOutput {
        actual += line + "\n"
      }
    }
    actual.removeLast()
    if ProcessInfo.processInfo.environment["VNVRAM_UPDATE_GOLDEN"] != nil, actual != wanted {
      try actual.write(to: file, atomically: true, encoding: .utf8)
    }
    #expect(actual == wanted, "\(Self.difference(wanted, actual))")
  }

  private static func run(_ command: String, _ workspace: Workspace) throws -> String {
    // Keys of one script must not be those of another.
    let outcome = try workspace.shell("KEY=\(workspace.key); \(command)")
    var text = normalised(outcome.text, workspace)
    if !text.isEmpty, !text.hasSuffix("\n") { text += "\n" }
    // A blank line would end the output.
    text = text.replacingOccurrences(of: "\n\n", with: "\n.\n")
    if outcome.status != 0 { text += "? \(outcome.status)\n" }
    return text
  }

  private static let rules = [
    ("[0-9a-f]{8}(-[0-9a-f]{8}){7}-[0-9a-f]{4}", "RECOVERY-KEY"),
    ("[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", "UUID"),
    ("serial [0-9]+", "serial N"), ("setperm [0-9]+", "setperm N"), ("\"serial\":[0-9]+", "\"serial\":N"),
    ("\"created\":[0-9]{10}", "\"created\":TIME"),
    ("20[0-9]{2}-[0-9]{2}-[0-9]{2} [0-9:]{8} UTC", "TIME"),
  ]

  private static func normalised(_ text: String, _ workspace: Workspace) -> String {
    var text = text.replacingOccurrences(of: workspace.key, with: "KEY")
    text = text.replacingOccurrences(of: workspace.folder, with: "FOLDER")
    for (pattern, word) in rules {
      text = text.replacingOccurrences(of: pattern, with: word, options: .regularExpression)
    }
    return text
  }

  /// The first lines that differ.
  private static func difference(_ wanted: String, _ actual: String) -> String {
    let (a, b) = (wanted.components(separatedBy: "\n"), actual.components(separatedBy: "\n"))
    for (index, (x, y)) in zip(a, b).enumerated() where x != y {
      return "line \(index + 1): wanted\n  \(x)\nand it is\n  \(y)"
    }
    return "\(a.count) lines wanted, and there are \(b.count)"
  }
}
