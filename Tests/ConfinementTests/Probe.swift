import Foundation
import TestSupport

/// A folder of one test's own, and processes that confine themselves to its part `own` and try something.
final class Probe {
  let folder: String

  init() throws {
    folder = NSTemporaryDirectory() + "vnvram-confined-\(UUID().uuidString.prefix(8).lowercased())"
    try FileManager.default.createDirectory(atPath: folder + "/own", withIntermediateDirectories: true)
    for name in ["other", "own/file"] {
      _ = FileManager.default.createFile(atPath: path(name), contents: Data("x".utf8))
    }
    _ = unsafe chmod(folder, 0o777)
    _ = unsafe chmod(path("own"), 0o777)
  }

  /// What came of each call that would harm: `done`, `killed`, `error N`.
  func harm(_ role: String, landlock: Bool, user: String) throws -> [String: String] {
    _ = unsafe chmod(path("other"), 0o666)
    let child = try Child(
      ["ConfinementProbe", role, "harm", user, landlock ? "with" : "without", folder], in: folder, merged: true)
    let outcome = try child.outcome()
    try TestFailure.unless(outcome.status == 0, outcome.text)
    let lines = outcome.text.split(separator: "\n").map { $0.split(separator: " ", maxSplits: 1).map(String.init) }
    try TestFailure.unless(lines.allSatisfy { $0.count == 2 }, outcome.text)
    return Dictionary(lines.map { ($0[0], $0[1]) }, uniquingKeysWith: { $0 + $1 })
  }

  deinit { try? FileManager.default.removeItem(atPath: folder) }

  func path(_ name: String) -> String { "\(folder)/\(name)" }

  struct Outcome: Equatable {
    /// Minus a signal's number.
    let status: Int32
    let text: String
  }

  func attempt(
    _ attempt: String, _ argument: String = "", role: String = "monitor", action: String = "kill", user: String = "-"
  ) throws -> Outcome {
    let child = try Child(
      ["ConfinementProbe", role, action, user, path("own"), attempt, argument], in: folder, merged: true)
    let outcome = try child.outcome()
    return Outcome(status: outcome.status, text: outcome.text)
  }
}

extension Probe.Outcome {
  static let done = Probe.Outcome(status: 0, text: "done\n")
  /// Ended by the filter.
  static let killed = Probe.Outcome(status: -SIGSYS, text: "")
  static func error(_ code: Int32) -> Probe.Outcome { Probe.Outcome(status: 0, text: "error \(code)\n") }
}
