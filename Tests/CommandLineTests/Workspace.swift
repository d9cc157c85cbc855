import Foundation
import Testing

/// A folder of its own for one test, removed with it; the program runs in it. Key names get a suffix of their own, since
/// all tests share a keyring.
final class Workspace {
  let folder: String
  let key: String

  init() throws {
    let name = UUID().uuidString.prefix(8).lowercased()
    folder = NSTemporaryDirectory() + "vnvram-cli-\(name)"
    key = "test-\(name)"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: folder) }

  func path(_ name: String) -> String { "\(folder)/\(name)" }

  /// Runs the program and waits for it.
  func run(_ arguments: String..., input: String = "/dev/null") throws -> Child.Outcome {
    try Child(["vnvram"] + arguments, in: folder, input: input).wait()
  }

  /// Runs another program and waits for it.
  func runOther(_ arguments: String...) throws -> Child.Outcome { try Child(arguments, in: folder).wait() }

  /// Runs a line of shell and waits for it, both outputs in one.
  func shell(_ line: String) throws -> Child.Outcome {
    try Child(["bash", "-c", line], in: folder, merged: true).wait()
  }

  /// Makes the key and an image of a few small entries, `a.img`.
  func makeImage(_ name: String = "a.img", _ arguments: String...) throws {
    if try run("key", "list").text.contains(key + " ") == false {
      try #require(try run("key", "generate", key, "--keyring", "session").status == 0)
    }
    let options = arguments.isEmpty ? ["--entry", "one=8K", "--entry", "two=100"] : arguments
    let outcome = try Child(["vnvram", "format", name, "--key", key] + options, in: folder).wait()
    try #require(outcome.status == 0, "\(outcome.errorText)")
  }

  /// The object that `--json` printed: one line on standard output.
  static func json(_ outcome: Child.Outcome) throws -> [String: Any] {
    #expect(outcome.text.hasSuffix("\n") && outcome.text.dropLast().contains("\n") == false)
    let object = try JSONSerialization.jsonObject(with: Data(outcome.output))
    return try #require(object as? [String: Any])
  }
}
