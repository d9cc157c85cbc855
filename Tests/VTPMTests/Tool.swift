import Foundation
import TestSupport
import Testing

/// Programs that the tests run.
enum Tool {
  struct Result {
    let status: Int32
    let output: String
  }

  /// A program that this package builds: beside the test program.
  static func builtProduct(_ name: String) -> String {
    URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent()
      .appendingPathComponent(name).path
  }

  /// Runs a program from the path; standard output and standard error together.
  static func run(_ arguments: [String], in directory: String, environment: [String: String] = [:]) throws -> Result {
    let output = "\(directory)/output-\(UUID().uuidString)"
    defer { try? FileManager.default.removeItem(atPath: output) }
    let child = try Child(arguments, in: directory, merged: true, output: output, environment: environment)
    let status = child.wait()
    let bytes = FileManager.default.contents(atPath: output) ?? Data()
    return Result(status: status, output: String(decoding: bytes, as: UTF8.self))
  }
}

extension TestServer {
  /// Runs one of tpm2-tools against the server, its files in the work directory.
  @discardableResult
  func tpm2(_ arguments: String...) throws -> Tool.Result {
    let transport =
      switch self.transport {
      case .unix: "swtpm:path=\(dataPath)"
      case .tcp: "swtpm:host=127.0.0.1,port=\(port)"
      }
    return try Tool.run(arguments, in: workPath, environment: ["TPM2TOOLS_TCTI": transport])
  }

  /// Runs swtpm_ioctl against the control channel.
  @discardableResult
  func control(_ arguments: String...) throws -> Tool.Result {
    let place =
      switch transport {
      case .unix: ["--unix", controlPath]
      case .tcp: ["--tcp", "127.0.0.1:\(port + 1)"]
      }
    return try Tool.run(["swtpm_ioctl"] + place + arguments, in: workPath)
  }
}
