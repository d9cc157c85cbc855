import Audit
import BlobStore
import BlockIO
import Foundation
import Primitives
import Testing

@testable import VNVRAM

/// Time for waiting: what has none left has no effect, and what need not wait needs none.
struct DeadlineTests {
  private let place: TestPlace
  private static let entries: [String: UInt64] = ["first": 4096, "second": 4096, "third": 4096, "late": 4096]

  init() throws {
    place = try TestPlace()
    try place.makeStore(Self.entries.merging(["device": 64]) { $1 })
    try place.bring("a", 1)
  }

  private func started(_ door: SyncDoor) throws -> NVRAM {
    let nvram = NVRAM(try DeviceWithDoor(path: place.image, door), audit: AuditLog(.none))
    for (name, capacity) in Self.entries { try nvram.register(entry: EntryName(name), capacity: ByteCount(capacity)) }
    try nvram.start(failOnEncryptedDrive: true)
    return nvram
  }

  /// Who is in the sync behind which the requests queue, and who serves them after it.
  @Test(
    "what has no time left behind a slow sync is not served, in the middle of a batch either", arguments: [true, false])
  func overInTheMiddle(_ isKeepers: Bool) throws {
    let door = SyncDoor()
    let nvram = try started(door)
    let outcomes = Recorder<String>()
    let submit = { @Sendable (name: EntryName, deadline: Duration?) in
      _ = try nvram.submit(name, content(2), deadline: deadline) { outcomes.add("\(name) \($0.error == .timedOut)") }
    }
    for round in 0..<20 {
      let before = outcomes.all.count
      let isSyncing = door.close()
      let slow = Running {
        if isKeepers { try nvram.submit("first", content(1)) { _ in } } else { try nvram.replace("first", content(1)) }
      }
      try #require(isSyncing.wait())
      // A thread that waits serves all of them; or the keeper does.
      let waiting = round % 2 == 0 ? Running { try nvram.replace("first", content(3)) } : nil
      if waiting != nil { #expect(eventually { nvram.machine.withLock { $0.queue.waiting } == 1 }) }
      try submit("second", nil)
      try submit("late", .microseconds(200))
      try submit("third", nil)
      let late = Running { failure { try nvram.replace("late", content(4), deadline: .microseconds(200)) }?.code }
      try #require(late.ends())
      #expect(try late.wait() == .timedOut)
      usleep(2000)
      door.open()
      try #require(slow.ends() && waiting?.ends() ?? true)
      try nvram.processRequests()
      #expect(Set(outcomes.all[before...]) == ["second false", "late true", "third false"])
      #expect(try nvram.readContent("late") == [])
    }
    #expect(try nvram.readContent("second") == content(2) && nvram.readContent("third") == content(2))
    #expect(nvram.closes())
  }

  /// What is called with no time at all.
  enum Call: CaseIterable {
    case readContent, readPart, readAll, write, replaceContent, writeContent

    func make(_ nvram: NVRAM) throws {
      switch self {
      case .readContent: _ = try nvram.readContent("first", deadline: .zero) as [UInt8]
      case .readPart:
        var part = [UInt8](repeating: 0, count: 10)
        _ = try nvram.readContent("first", at: ByteOffset(0), into: part.mutableSpan, deadline: .zero)
      case .readAll: try nvram.read("device", deadline: .zero)
      case .write: try nvram.write("device", deadline: .zero)
      case .replaceContent: try nvram.replace("first", content(1), deadline: .zero)
      case .writeContent: try nvram.writeContent("first", at: ByteOffset(1), content(1).span, deadline: .zero)
      }
    }
  }

  private func register(_ nvram: NVRAM) throws {
    try nvram.register(entry: "device") { (_, visitor, _) throws(VisitorError) in
      var number: UInt32 = 7
      try visitor.visit("number", &number)
    }
  }

  @Test("what has no time at all is done where the store is free", arguments: Call.allCases)
  func noTime(_ call: Call) throws {
    let nvram = try started(SyncDoor())
    try register(nvram)
    try nvram.write("device")
    // The keeper may have the store for a moment after a write.
    #expect(eventually { failure { try call.make(nvram) } == nil })
    #expect(nvram.closes())
  }

  @Test("what has no time at all is not done where the store is busy or a key is missing", arguments: Call.allCases)
  func noTimeAndBusy(_ call: Call) throws {
    let door = SyncDoor()
    let nvram = try started(door)
    try register(nvram)
    try nvram.write("device")
    let isSyncing = door.close()
    let slow = Running { try nvram.replace("third", content(1)) }
    try #require(isSyncing.wait())
    let calling = Running { failure { try call.make(nvram) }?.code }
    #expect(calling.ends())
    door.open()
    #expect(try calling.wait() == .timedOut)
    #expect(slow.ends())
    try nvram.lock()
    #expect(failure { try call.make(nvram) }?.code == .timedOut)
    #expect(nvram.closes())
  }
}
