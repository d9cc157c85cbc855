import Foundation

/// A folder of its own for one test, removed with it; the program runs in it. Key names get a suffix of their own,
/// since all tests share a keyring.
public final class Workspace {
  public let folder: String
  public let key: String

  public init() throws {
    let name = UUID().uuidString.prefix(8).lowercased()
    folder = NSTemporaryDirectory() + "vnvram-cli-\(name)"
    key = "test-\(name)"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: folder) }

  public func path(_ name: String) -> String { "\(folder)/\(name)" }

  /// Runs the program and waits for it.
  public func run(_ arguments: String..., input: String = "/dev/null") throws -> Child.Outcome {
    try Child(["vnvram"] + arguments, in: folder, input: input).outcome()
  }

  /// Runs another program and waits for it.
  public func runOther(_ arguments: String...) throws -> Child.Outcome { try Child(arguments, in: folder).outcome() }

  /// Runs a line of shell and waits for it, both outputs in one.
  public func shell(_ line: String) throws -> Child.Outcome {
    try Child(["bash", "-c", line], in: folder, merged: true).outcome()
  }

  /// Makes the key and an image of a few small entries, `a.img`.
  public func makeImage(_ name: String = "a.img", _ arguments: String...) throws {
    if try run("key", "list").text.contains(key + " ") == false {
      let made = try run("key", "generate", key, "--keyring", "session")
      try TestFailure.unless(made.status == 0, made.errorText)
    }
    let options = arguments.isEmpty ? ["--entry", "one=8K", "--entry", "two=100"] : arguments
    let outcome = try Child(["vnvram", "format", name, "--key", key] + options, in: folder).outcome()
    try TestFailure.unless(outcome.status == 0, outcome.errorText)
  }

  /// The object that `--json` printed: one line on standard output.
  public static func json(_ outcome: Child.Outcome) throws -> [String: Any] {
    try TestFailure.unless(
      outcome.text.hasSuffix("\n") && !outcome.text.dropLast().contains("\n"), "not one line: \(outcome.text)")
    let object = try JSONSerialization.jsonObject(with: Data(outcome.output))
    guard let object = object as? [String: Any] else { throw TestFailure("not an object: \(outcome.text)") }
    return object
  }
}
