import ArgumentParser
import Primitives

/// A subcommand: parsed arguments, and one function that does the work and returns what there is to say.
protocol Subcommand: ParsableCommand {
  var output: OutputOptions { get }
  func perform() throws -> Answer
}

extension Subcommand {
  /// `Program` calls `perform`; this is for completeness only.
  func run() throws { _ = try perform() }
}

/// What every subcommand has.
struct OutputOptions: ParsableArguments {
  @Flag(help: "Print one JSON object instead of text.")
  var json = false
}

/// What a subcommand has to say: text for people and the same for programs.
struct Answer {
  /// Lines for standard output; control characters in what comes from outside are escaped already.
  var text: [String] = []
  /// What follows `status` in the JSON object, in this order.
  var fields: [(String, JSON)] = []
  /// For standard error, and as `warnings` in the JSON object.
  var warnings: [String] = []
  /// Set where the answer is itself bad news: `status` and `check` say what they found and fail.
  var failure: Failure?
}
