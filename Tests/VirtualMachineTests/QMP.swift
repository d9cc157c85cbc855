import Foundation
import TestSupport

/// QEMU's machine protocol: one JSON object a line. Events are passed over.
final class QMP {
  private let socket: LineSocket

  init(path: String, while isAlive: () -> Bool) throws {
    socket = try LineSocket(path: path, while: isAlive)
    _ = try next()
    try run("qmp_capabilities")
  }

  private func next() throws -> [String: Any] {
    guard let line = try socket.line(within: 60) else { throw TestFailure("QEMU's monitor doesn't answer") }
    let object = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
    guard let object else { throw TestFailure("not an object: \(line)") }
    return object
  }

  /// What the command returned; throws what QEMU says where it failed.
  @discardableResult
  func run(_ command: String, _ arguments: [String: Any] = [:]) throws -> [String: Any] {
    try value(command, arguments) as? [String: Any] ?? [:]
  }

  /// As `run`, where a list is returned.
  func list(_ command: String) throws -> [[String: Any]] { try value(command, [:]) as? [[String: Any]] ?? [] }

  private func value(_ command: String, _ arguments: [String: Any]) throws -> Any {
    let request: [String: Any] = ["execute": command, "arguments": arguments]
    socket.send(String(decoding: try JSONSerialization.data(withJSONObject: request), as: UTF8.self))
    while true {
      let answer = try next()
      if let value = answer["return"] { return value }
      if let error = answer["error"] { throw TestFailure("\(command): \(error)") }
    }
  }
}
