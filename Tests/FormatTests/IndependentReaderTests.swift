import Crypto
import Foundation
import Primitives
import Testing

/// The reader in Python, which knows FORMAT.md and nothing of this program, reads what this program writes.
struct IndependentReaderTests {
  static let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .appending(path: "IndependentReader")

  static var python: String { ProcessInfo.processInfo.environment["VNVRAM_PYTHON"] ?? "python3" }

  @Test func readsStoresOfRandomShape() throws {
    let shapes = 200
    let scratch = FileManager.default.temporaryDirectory.appending(path: "vnvram-shapes-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: scratch, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: scratch) }
    let first = UInt64.random(in: 0..<1 << 60)
    let reader = try PythonReader()
    defer { reader.stop() }
    var closed = 0
    for seed in first..<first + UInt64(shapes) {
      let made = try RandomStore(seed: seed)
      let file = scratch.appending(path: "image")
      try Data(made.disk.bytes).write(to: file)
      let answer = try reader.read(file.path, key: made.key)
      let expected = try made.entries.map { entry in
        let digest = try Digest.sha256(entry.content.span)
        return Found(
          name: entry.name.text, capacity: entry.capacity, size: entry.content.count, sha256: digest.array.hex)
      }
      #expect(answer.reason == nil, "seed \(seed): \(answer.message ?? "")")
      #expect(answer.entries == expected, "seed \(seed)")
      #expect(answer.generation == made.volume.generation.value, "seed \(seed)")
      if answer.clean == true { closed += 1 }
    }
    print(
      "independent reader: \(shapes) stores of random shape read alike, \(closed) of them closed, seeds from \(first)")
  }
}

struct Found: Codable, Equatable {
  let name: String
  let capacity: Int
  let size: Int
  let sha256: String
}

/// Tests/IndependentReader/read_many.py in a process of its own, asked over a pipe.
private final class PythonReader {
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
