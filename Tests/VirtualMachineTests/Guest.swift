import Foundation
import TestSupport

/// The program `Guest/init` in a virtual machine, at the other end of a serial port.
protocol Guest {
  var lines: LineSocket { get }
  /// What is known of the machine, with what went wrong.
  func failure(_ text: String) -> TestFailure
}

struct Answer {
  let status: Int
  let text: String
}

extension Guest {
  /// Whether the guest is up within the time. Its kernel has found the TPM then.
  func isUp(within seconds: Double) throws -> Bool {
    let end = Date(timeIntervalSinceNow: seconds)
    do {
      // UEFI firmware, and what it starts, write to every serial port before that.
      while let line = try lines.line(within: end.timeIntervalSinceNow) { if line == "ready" { return true } }
    } catch { throw failure("\(error)") }
    return false
  }

  func waitUntilUp() throws {
    guard try isUp(within: 100) else { throw failure("the guest is not up") }
  }

  /// Runs one line of shell in the guest.
  func run(_ line: String) throws -> Answer {
    lines.send(line)
    return try answer(line)
  }

  /// The answer to a line that was sent before.
  func answer(_ line: String) throws -> Answer {
    let answer: String?
    do { answer = try lines.line(within: 100) } catch { throw failure("\(line): \(error)") }
    guard let parts = answer?.split(separator: " ", omittingEmptySubsequences: false), parts.count == 3,
      parts[0] == "answer", let status = Int(parts[1]), let output = Data(base64Encoded: String(parts[2]))
    else { throw failure("\(line): no answer but \(answer ?? "silence")") }
    return Answer(status: status, text: String(decoding: output, as: UTF8.self))
  }

  /// Runs a line that has to succeed, and gives its output without the last line's end.
  @discardableResult
  func expect(_ line: String) throws -> String {
    let answer = try run(line)
    guard answer.status == 0 else { throw failure("\(line): status \(answer.status): \(answer.text)") }
    return answer.text.hasSuffix("\n") ? String(answer.text.dropLast()) : answer.text
  }

  /// Sends a line, and does not wait for its end.
  func start(_ line: String) { lines.send(line) }
}
