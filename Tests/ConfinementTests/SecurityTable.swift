import Foundation
import TestSupport

/// A table of SECURITY.md.
struct SecurityTable {
  /// Cells of each row, as they are written.
  let rows: [[String]]

  /// - Parameter first: how its first line begins.
  init(_ first: String) throws {
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../..")
    let text = try String(contentsOf: root.appendingPathComponent("SECURITY.md"), encoding: .utf8)
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    guard let start = lines.firstIndex(where: { $0.hasPrefix(first) }) else {
      throw TestFailure("SECURITY.md has no table that begins with \(first)")
    }
    rows = lines[(start + 2)...].prefix { $0.hasPrefix("|") }.map { line in
      line.dropFirst().dropLast().split(separator: "|", omittingEmptySubsequences: false)
        .map { $0.trimmingCharacters(in: .whitespaces) }
    }
  }

  /// The names in a cell.
  static func names(_ cell: String) -> [String] {
    cell.split(separator: " ").map { $0.trimmingCharacters(in: CharacterSet(charactersIn: "`")) }
  }
}
