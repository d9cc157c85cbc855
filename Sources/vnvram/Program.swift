import ArgumentParser
import Primitives
import ProgramIO

/// Runs one command and tells its outcome: text or JSON on standard output, messages on standard error, and one of the
/// exit statuses of `Status`.
enum Program {
  static func run(_ arguments: [String]) -> Int32 {
    ProcessSetup.run()
    var command: any ParsableCommand
    do { command = try VNVRAMCommand.parseAsRoot(arguments) } catch { return tellParsing(error, arguments) }
    guard let subcommand = command as? any Subcommand else {
      // A group without a subcommand, or `help`.
      let isGroup = !type(of: command).configuration.subcommands.isEmpty
      do { try command.run() } catch { return tellParsing(error, arguments, asHelp: !isGroup) }
      return Status.done.rawValue
    }
    RunningSubcommand.set(type(of: subcommand))
    do {
      return tell(try subcommand.perform(), json: subcommand.output.json).rawValue
    } catch {
      var answer = Answer()
      answer.failure = Failure(error)
      return tell(answer, json: subcommand.output.json).rawValue
    }
  }

  private static func tell(_ answer: Answer, json: Bool) -> Status {
    let status = answer.failure?.status ?? .done
    for warning in answer.warnings { complain("vnvram: warning: \(warning)") }
    do {
      let out = OutputFile(descriptor: 1, name: "standard output")
      if json {
        var fields: [(String, JSON)] = [("status", .string(status.name))] + answer.fields + ClosedGeneration.fields
        if !answer.warnings.isEmpty { fields.append(("warnings", .array(answer.warnings.map { .string($0) }))) }
        if let failure = answer.failure { fields.append(("error", failure.json)) }
        try out.write(JSON.object(fields).text + "\n")
      } else if !answer.text.isEmpty {
        try out.write(answer.text.map { $0 + "\n" }.joined())
      }
    } catch {
      complain("vnvram: \(error)")
      return error.status
    }
    if let failure = answer.failure { complain("vnvram: \(failure.message)") }
    return status
  }

  /// Help and version, or what was wrong with the arguments.
  private static func tellParsing(_ error: any Error, _ arguments: [String], asHelp: Bool = true) -> Int32 {
    if asHelp, VNVRAMCommand.exitCode(for: error) == .success {
      let text = VNVRAMCommand.fullMessage(for: error)
      return tell(Answer(text: [text]), json: false).rawValue
    }
    // An argument can be a megabyte; what is wrong with it shows at its start.
    var text = VNVRAMCommand.fullMessage(for: error)
    if text.hasPrefix("Error: ") { text = "vnvram: " + text.dropFirst(7) }
    text = text.split(separator: "\n", omittingEmptySubsequences: false).map { Text.shortened(String($0), to: 400) }
      .joined(separator: "\n")
    if arguments.prefix(while: { $0 != "--" }).contains("--json") {
      let message = asHelp ? VNVRAMCommand.message(for: error) : "a subcommand is missing"
      let failure = Failure(.usage, Text.shortened(message, to: 400))
      let object = JSON.object([("status", .string(Status.usage.name)), ("error", failure.json)])
      try? OutputFile(descriptor: 1, name: "standard output").write(object.text + "\n")
    }
    try? OutputFile(descriptor: 2, name: "standard error").write(text + "\n")
    return Status.usage.rawValue
  }

  /// One line on standard error. There is nobody to tell where that fails.
  static func complain(_ line: String) {
    try? OutputFile(descriptor: 2, name: "standard error").write(Text.escaped(line) + "\n")
  }
}
