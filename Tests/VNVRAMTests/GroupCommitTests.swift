import BlobStore
import BlockIO
import Foundation
import Primitives
import SecureVolume
import StorageSimulation
import Testing

@testable import VNVRAM

/// Many writers, one record.
struct GroupCommitTests {
  let place: TestPlace
  static let names: [EntryName] = ["e0", "e1", "e2", "e3", "e4", "e5", "e6", "e7"]

  init() throws {
    place = try TestPlace()
    try place.makeStore(Dictionary(uniqueKeysWithValues: Self.names.map { ($0.text, 4096) }))
    try place.bring("a", 1)
  }

  private func generation() throws -> UInt64 {
    let device = try FileDevice.open(path: place.image, access: .readOnly)
    defer { device.close() }
    return try SealedVolume(device).generation.value
  }

  private func started() throws -> NVRAM {
    let nvram = try place.nvram(Dictionary(uniqueKeysWithValues: Self.names.map { ($0.text, 4096) }))
    try nvram.start(failOnEncryptedDrive: true)
    return nvram
  }

  @Test func eightThreadsShareRecords() throws {
    let nvram = try started()
    let writes = 60
    let threads = Self.names.map { name in
      Running {
        for i in 1...writes {
          try nvram.replace(name, content(i))
          #expect(try nvram.readContent(name) == content(i))
        }
      }
    }
    for thread in threads { try thread.wait() }
    try nvram.close()
    let records = try generation()
    #expect(records < UInt64(writes * Self.names.count))
    for name in Self.names { #expect(try place.content(name.text, capacity: 4096) == content(writes)) }
  }

  @Test func oneThatCannotBeStagedFailsAlone() throws {
    let nvram = try place.nvram(["e0": 4096, "e1": 5000, "e2": 4096])
    try nvram.start(failOnEncryptedDrive: false)
    try nvram.lock()
    let outcomes = Recorder<NVRAMError.Code?>()
    for (name, i) in [("e0", 1), ("e1", 2), ("e2", 3)] {
      try nvram.submit(EntryName(name), content(i)) { outcomes.add($0.error) }
    }
    nvram.poke()
    try nvram.processRequests()
    #expect(outcomes.all == [nil, .entryTooSmall, nil])
    #expect(try nvram.readContent("e0") == content(1))
    #expect(try nvram.readContent("e2") == content(3))
    try nvram.close()
    #expect(try generation() == 1)
  }

  /// Everything at once, for races: writers that wait and don't, readers, deadlines, cancelling, locking, registering.
  @Test func manyThreadsDoEverything() throws {
    let nvram = try started()
    let place = self.place
    let ended = Recorder<Int>()
    let submitted = Recorder<Int>()
    let threads = (0..<6).map { thread in
      Running {
        for i in 0..<40 {
          let name = Self.names[(thread + i) % Self.names.count]
          switch (thread + i) % 6 {
          case 0: _ = failure { try nvram.replace(name, content(i), deadline: .milliseconds(200)) }
          case 1:
            submitted.add(i)
            try nvram.submit(name, content(i), deadline: .milliseconds(50)) { _ in ended.add(i) }
          case 2: _ = failure { try nvram.readContent(name, deadline: .milliseconds(200)) }
          case 3: nvram.cancelAll()
          case 4:
            if thread == 0 { try nvram.lock() }
            nvram.poke()
          default: try place.bring("a", 1)
          }
        }
      }
    }
    for thread in threads { try thread.wait() }
    nvram.poke()
    #expect(eventually { nvram.state == .running })
    try nvram.processRequests()
    #expect(ended.all.count == submitted.all.count)
    try nvram.replace("e0", content(200))
    try nvram.close()
    #expect(try place.content("e0", capacity: 4096) == content(200))
  }
}
