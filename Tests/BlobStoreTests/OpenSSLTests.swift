import Foundation
import Primitives
import StorageSimulation
import Testing

@testable import BlobStore

/// The stream is DER to someone else too: `openssl asn1parse` reads it.
struct OpenSSLTests {
  /// Offset, length and text of every primitive and SEQUENCE that openssl finds, a line each.
  private func parse(_ bytes: [UInt8]) throws -> (status: Int32, lines: [Substring]) {
    let file = FileManager.default.temporaryDirectory.appending(path: "vnvram-\(UUID().uuidString).der")
    try Data(bytes).write(to: file)
    defer { try? FileManager.default.removeItem(at: file) }
    let process = Process()
    process.executableURL = URL(filePath: "/usr/bin/env")
    process.arguments = ["openssl", "asn1parse", "-inform", "DER", "-in", file.path()]
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = FileHandle.nullDevice
    try process.run()
    let output = pipe.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return (process.terminationStatus, String(decoding: output, as: UTF8.self).split(separator: "\n"))
  }

  @Test func dump() throws {
    var random = SeededGenerator(seed: 21)
    for round in 0..<6 {
      let items = randomItems(&random)
      let (store, _) = try makeStore(items, volumeSize: 1 << 20)
      let (status, lines) = try parse(store.dumped())
      #expect(status == 0, "round \(round)")
      let names = lines.filter { $0.contains("UTF8STRING") }.compactMap {
        $0.split(separator: ":").last.map(String.init)
      }
      #expect(names.count == items.count + 1)
      #expect(names.first == "qemu-nvram")
      // Contents, in order: where they are and how long.
      let places = lines.filter { $0.contains("d=3") && $0.contains("OCTET STRING") && !$0.contains("l=   8 ") }
      let offsets = places.compactMap { line -> Int? in
        let numbers = line.split { !$0.isNumber }.prefix(3).compactMap { Int($0) }
        return numbers.count == 3 ? numbers[0] + numbers[2] : nil
      }
      let expected = store.entries.filter { $0.capacity.value != 8 }.map { Int($0.offset.value) }
      #expect(offsets == expected)
    }
  }

  @Test func damagedDumpIsNoDER() throws {
    let bytes = makeStream([Item(name: "a", capacity: 10)])
    #expect(try parse(Array(bytes.dropLast())).status != 0)
  }
}
