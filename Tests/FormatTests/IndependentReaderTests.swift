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
