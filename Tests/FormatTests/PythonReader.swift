import Foundation

/// An entry as the independent reader saw it.
struct Found: Codable, Equatable {
  let name: String
  let capacity: Int
  let size: Int
  let sha256: String
}

/// Tests/IndependentReader/read_many.py in a process of its own, asked over a pipe.
final class PythonReader {
  struct Answer: Codable {
    let reason: String?
    let message: String?
    let generation: UInt64?
    let clean: Bool?
    let entries: [Found]?
  }

  private let process = Process()
  private let requests = Pipe()
  private let answers = Pipe()
  private var pending = Data()

  init() throws {
    process.executableURL = URL(filePath: "/usr/bin/env")
    process.arguments = [IndependentReaderTests.python, "read_many.py"]
    process.currentDirectoryURL = IndependentReaderTests.folder
    process.standardInput = requests
    process.standardOutput = answers
    try process.run()
  }

  func read(_ image: String, key: [UInt8]) throws -> Answer {
    try requests.fileHandleForWriting.write(contentsOf: Data("\(image) \(key.hex)\n".utf8))
    while true {
      if let end = pending.firstIndex(of: 0x0A) {
        let line = Data(pending[..<end])
        pending = Data(pending[(end + 1)...])
        return try JSONDecoder().decode(Answer.self, from: line)
      }
      let more = answers.fileHandleForReading.availableData
      guard !more.isEmpty else { throw CocoaError(.fileReadUnknown) }
      pending += more
    }
  }

  func stop() {
    try? requests.fileHandleForWriting.close()
    process.waitUntilExit()
  }
}
