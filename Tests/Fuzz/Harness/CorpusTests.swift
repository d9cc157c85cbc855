import Foundation
import Testing

/// Every checked-in input through its target once, without a fuzzer: what was found once stays mended. An input that
/// traps ends the process, with the target's last words.
@Suite struct CorpusTests {
  private static let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .appending(path: "Corpora")

  private static func inputs(of target: FuzzTarget) throws -> [(name: String, bytes: [UInt8])] {
    let file = folder.appending(path: "\(target.rawValue).txt")
    return try CorpusFile(parsing: String(contentsOf: file, encoding: .utf8)).inputs
  }

  private static func replay(_ target: FuzzTarget) throws -> Int {
    let inputs = try inputs(of: target)
    for input in inputs { target.run(input.bytes) }
    return inputs.count
  }

  @Test(arguments: FuzzTarget.allCases.filter { ![.control, .data, .guest].contains($0) })
  func corpus(target: FuzzTarget) throws {
    let count = try Self.replay(target)
    #expect(count > 0)
    print("fuzzing: \(count) inputs of \(target.rawValue) replayed")
  }

  // libtpms is global to a process, and other tests claim it in this one.
  @Test func controlChannel() async {
    await #expect(processExitsWith: .success) {
      let count = try Self.replay(.control)
      precondition(count > 0)
    }
  }

  @Test func dataChannel() async {
    await #expect(processExitsWith: .success) {
      let count = try Self.replay(.data)
      precondition(count > 0)
    }
  }

  @Test func guestChannel() async {
    await #expect(processExitsWith: .success) {
      let count = try Self.replay(.guest)
      precondition(count > 0)
    }
  }

  /// The corpora are small, and their lines are what `vnvram-corpus pack` prints.
  @Test func corporaAreAsTheyAreWritten() throws {
    var size = 0
    for target in FuzzTarget.allCases {
      let inputs = try Self.inputs(of: target)
      #expect(Set(inputs.map(\.name)).count == inputs.count, "\(target): a name that comes twice")
      size += inputs.reduce(0) { $0 + $1.bytes.count }
      for input in inputs {
        let again = try CorpusFile(parsing: CorpusFile.line(input.name, input.bytes)).inputs
        #expect(again.map(\.bytes) == [input.bytes])
      }
    }
    #expect(size < 1 << 20)
    #expect(throws: CorpusFile.Malformation.self) { try CorpusFile(parsing: "name 0") }
  }
}
