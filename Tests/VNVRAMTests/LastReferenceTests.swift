import Audit
import BlobStore
import Foundation
import Primitives
import Testing

@testable import VNVRAM

/// Something of a caller's that a completion or a callback has the last reference to.
private final class Owner: Sendable {
  private let goes: @Sendable () -> Void
  init(_ goes: @escaping @Sendable () -> Void) { self.goes = goes }
  deinit { goes() }
  func use() {}
}

/// What is called may hold the last reference to something whose end calls the NVRAM: it is let go on the thread that
/// called it or took it back, without the lock, and not by who serves.
struct LastReferenceTests {
  private let place: TestPlace
  private static let rounds = isSanitized ? 10 : 50

  init() throws {
    place = try TestPlace()
    try place.makeStore(["state": 4096, "device": 64])
    try place.bring("a", 1)
  }

  private func started() throws -> NVRAM {
    let nvram = try place.nvram(["state": 4096], audit: AuditLog(.none))
    try nvram.start(failOnEncryptedDrive: true)
    return nvram
  }

  /// Registers a device whose callback has the only reference to what calls `goes` in the end.
  private func register(_ nvram: NVRAM, _ goes: @escaping @Sendable () -> Void) throws {
    let owner = Owner(goes)
    try nvram.register(entry: "device") { (_, visitor, _) throws(VisitorError) in
      owner.use()
      var number: UInt32 = 7
      try visitor.visit("number", &number)
    }
  }

  /// What makes a request with a completion.
  enum Use: CaseIterable {
    case replace, write, read, readContent

    func make(_ nvram: NVRAM, _ completion: @escaping @Sendable () -> Void) throws {
      switch self {
      case .replace: try nvram.submit("state", content(1)) { _ in completion() }
      case .write: try nvram.write("device") { _ in completion() }
      case .read: try nvram.read("device") { _ in completion() }
      case .readContent: try nvram.readContent("state") { _ in completion() }
      }
    }
  }

  @Test("what a completion had the last reference to closes the NVRAM in its end", arguments: Use.allCases)
  func closedByACompletionsEnd(_ use: Use) throws {
    for round in 0..<Self.rounds {
      let nvram = try started()
      try register(nvram) {}
      try nvram.write("device")
      let closed = Latch()
      let outcome = Recorder<NVRAMError.Code?>()
      // Beside a writer, which makes the batches larger in some rounds.
      let writer = Running { while failure({ try nvram.replace("state", content(2)) }) == nil {} }
      func make() throws {
        let owner = Owner {
          outcome.add(failure { try nvram.close() }?.code)
          closed.open()
        }
        try use.make(nvram) { owner.use() }
      }
      try make()
      try #require(closed.wait(), "round \(round): close hangs")
      #expect(outcome.all == [nil])
      try #require(writer.ends() && nvram.closes(), "round \(round)")
      #expect(nvram.state == .closed)
    }
  }

  @Test("what a deregistered callback had the last reference to closes the NVRAM in its end")
  func closedByACallbacksEnd() throws {
    for round in 0..<Self.rounds {
      let nvram = try started()
      let closed = Latch()
      try register(nvram) {
        try? nvram.close()
        closed.open()
      }
      // Of all kinds, some of which have not ended by then.
      try nvram.write("device")
      try nvram.read("device")
      try nvram.write("device") { _ in }
      if round % 2 == 0 { try nvram.read("device") { _ in } }
      let writer = Running { while failure({ try nvram.replace("state", content(2)) }) == nil {} }
      let deregistering = Running { try nvram.deregister(entry: "device") }
      try #require(deregistering.ends() && closed.wait(), "round \(round): deregister or close hangs")
      #expect(failure { try deregistering.wait() } == nil)
      try #require(writer.ends() && nvram.closes(), "round \(round)")
    }
  }

  @Test("what a deregistered callback had the last reference to asks the NVRAM in its end, which has no lock then")
  func askedByACallbacksEnd() throws {
    let nvram = try started()
    for round in 0..<Self.rounds {
      let states = Recorder<String>()
      let asked = Latch()
      try register(nvram) {
        states.add(nvram.state.name)
        states.add(failure { try nvram.deregister(entry: "device") }?.code == .notRegistered ? "gone" : "there")
        asked.open()
      }
      if round % 2 == 0 { try nvram.write("device") { _ in } }
      let deregistering = Running { try nvram.deregister(entry: "device") }
      try #require(deregistering.ends() && asked.wait(), "round \(round): the lock is held while the callback goes")
      #expect(states.all == ["running", "gone"])
    }
    #expect(nvram.closes())
  }

  @Test("what a refused registration's callback and a refused request's completion held goes without the lock")
  func refused() throws {
    let nvram = try started()
    let states = Recorder<String>()
    try register(nvram) {}
    let calls = Running {
      let again = failure { try self.register(nvram) { states.add(nvram.state.name) } }
      func submit() throws {
        let owner = Owner { states.add(nvram.state.name) }
        try nvram.submit("other", content(1)) { _ in owner.use() }
      }
      return [again?.code, failure { try submit() }?.code]
    }
    try #require(calls.ends())
    #expect(try calls.wait() == [.alreadyRegistered, .notRegistered])
    #expect(states.all == ["running", "running"])
    #expect(nvram.closes())
  }

  @Test("requests that are called off let go of what they held without the lock")
  func calledOff() throws {
    let nvram = try started()
    try nvram.lock()
    let states = Recorder<String>()
    for _ in 0..<Self.rounds {
      func submit() throws {
        let owner = Owner { states.add(nvram.state.name) }
        try nvram.submit("state", content(1)) { _ in owner.use() }
      }
      try submit()
    }
    let calling = Running { nvram.cancelAll() }
    try #require(calling.ends())
    #expect(try calling.wait() == Self.rounds)
    #expect(eventually { states.all.count == Self.rounds })
    #expect(states.all.allSatisfy { $0 == "locked" })
    #expect(nvram.closes())
  }
}
