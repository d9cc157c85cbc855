import Audit
import BlobStore
import Primitives
import Testing

@testable import VNVRAM

/// The generation that the NVRAM says is never older than what was acknowledged.
struct GenerationTests {
  private let place: TestPlace
  private static let names: [EntryName] = ["e0", "e1", "e2", "e3", "e4", "e5", "e6", "e7"]
  private static let entries = Dictionary(uniqueKeysWithValues: names.map { ($0.text, UInt64(4096)) })

  init() throws {
    place = try TestPlace()
    try place.makeStore(Self.entries)
    try place.bring("a", 1)
  }

  private func started() throws -> NVRAM {
    let nvram = try place.nvram(Self.entries, audit: AuditLog(.none))
    try nvram.start(failOnEncryptedDrive: true)
    return nvram
  }

  @Test("after each write of eight writers the generation is that write's or a later one's, and never goes back")
  func writers() throws {
    let nvram = try started()
    let mustEnd = Locked(false)
    let watching = Running {
      var (last, isRising): (UInt64, Bool) = (0, true)
      while !mustEnd.withLock({ $0 }) {
        let now = nvram.generation?.value ?? 0
        isRising = isRising && now >= last
        last = now
      }
      return isRising
    }
    let writers = Self.names.map { name in
      Running {
        for number in 1...150 {
          let before = nvram.generation?.value ?? .max
          try nvram.replace(name, content(number))
          guard let after = nvram.generation?.value, after > before else { return number }
        }
        return 0
      }
    }
    for writer in writers { try #require(writer.ends()) }
    mustEnd.withLock { $0 = true }
    #expect(try writers.map { try $0.wait() } == [Int](repeating: 0, count: 8), "the write with an old generation")
    #expect(try watching.wait())
    #expect(nvram.closes())
  }

  @Test("in its completion the generation is a write's own or a later one's")
  func completions() throws {
    let nvram = try started()
    let results = Recorder<Bool>()
    for number in 0..<200 {
      let before = try #require(nvram.generation?.value)
      try nvram.submit("e0", content(number)) { _ in results.add(nvram.generation.map { $0.value > before } ?? false) }
      if number % 10 == 0 { try nvram.processRequests() }
    }
    try nvram.processRequests()
    #expect(results.all == [Bool](repeating: true, count: 200))
    #expect(nvram.closes())
  }

  @Test("who is told of a write by another thread sees its generation")
  func anotherThread() throws {
    let nvram = try started()
    for round in 0..<100 {
      let before = try #require(nvram.generation?.value)
      try Running { try nvram.replace("e0", content(round)) }.wait()
      #expect(try #require(nvram.generation?.value) > before)
    }
    try nvram.lock()
    #expect(nvram.generation == nil)
    #expect(nvram.closes())
  }
}
