import Audit
import BlobStore
import Foundation
import Primitives
import Testing

@testable import VNVRAM

/// What is called while an NVRAM is being closed, and after, and before it was started.
struct ClosedTests {
  private let place: TestPlace

  init() throws {
    place = try TestPlace()
    try place.makeStore(["state": 4096, "device": 64])
    try place.bring("a", 1)
  }

  private static let number: NVRAMCallback = { (_, visitor, _) throws(VisitorError) in
    var number: UInt32 = 7
    try visitor.visit("number", &number)
  }

  private func registered(_ calls: Recorder<NVRAMOperation>) throws -> NVRAM {
    let nvram = try place.nvram(["state": 4096], audit: AuditLog(.none))
    try nvram.register(entry: "device") { (operation, visitor, name) throws(VisitorError) in
      calls.add(operation)
      try Self.number(operation, visitor, name)
    }
    return nvram
  }

  private enum Call: CaseIterable {
    case read, write, readLater, writeLater, readContent, writeContent, readContentLater, writeContentLater, process

    func make(_ nvram: NVRAM) throws {
      switch self {
      case .read: try nvram.read("device")
      case .write: try nvram.write("device")
      case .readLater: try nvram.read("device") { _ in Issue.record("called") }
      case .writeLater: try nvram.write("device") { _ in Issue.record("called") }
      case .readContent: _ = try nvram.readContent("state") as [UInt8]
      case .writeContent: try nvram.replace("state", content(1))
      case .readContentLater: try nvram.readContent("state") { _ in Issue.record("called") }
      case .writeContentLater: try nvram.submit("state", content(1)) { _ in Issue.record("called") }
      case .process: try nvram.processRequests()
      }
    }
  }

  /// What each call throws; calls that hang are a failure of the test and no more.
  private func codes(_ calls: [@Sendable () throws -> Void]) throws -> [NVRAMError.Code?] {
    let calling = Running { calls.map { call in failure { try call() }?.code } }
    try #require(calling.ends(), "a call hangs")
    return try calling.wait()
  }

  private func requests(_ nvram: NVRAM) throws -> [NVRAMError.Code?] {
    try codes(Call.allCases.map { call in { try call.make(nvram) } })
  }

  private func all(_ code: NVRAMError.Code, _ count: Int) -> [NVRAMError.Code?] { .init(repeating: code, count: count) }

  @Test("no callback is called, and no request is taken, before the start and after the end")
  func callbacks() throws {
    let calls = Recorder<NVRAMOperation>()
    let nvram = try registered(calls)
    #expect(calls.all == [.format])
    #expect(try requests(nvram) == all(.notStarted, Call.allCases.count))
    #expect(calls.all == [.format])
    try nvram.start(failOnEncryptedDrive: true)
    try nvram.write("device")
    #expect(nvram.closes())
    #expect(try requests(nvram) == all(.closed, Call.allCases.count))
    #expect(calls.all == [.format, .write])
  }

  /// What isn't a request.
  private func others(_ nvram: NVRAM) throws -> [NVRAMError.Code?] {
    try codes([
      { try nvram.lock() }, { try nvram.start(failOnEncryptedDrive: true) },
      { try nvram.start(failOnEncryptedDrive: false) }, { try nvram.start(with: TestPlace.key(1)) },
      { try nvram.unlock(with: TestPlace.key(1)) }, { try nvram.register(entry: "new", capacity: ByteCount(1)) },
      { try nvram.register(entry: "new", callback: Self.number) }, { try nvram.formatAgain() },
    ])
  }

  /// What throws nothing.
  private func asks(_ nvram: NVRAM) {
    nvram.poke()
    nvram.observe { _ in }
    #expect(nvram.cancelAll() == 0)
    #expect(nvram.generation == nil && !nvram.hadFatalError && !nvram.isLookingForKeys)
  }

  @Test("start, lock, unlock, register and format throw once it is closed, whatever it was before")
  func afterwards() throws {
    for isStarted in [true, false] {
      let nvram = try registered(Recorder())
      if isStarted { try nvram.start(failOnEncryptedDrive: true) }
      #expect(nvram.closes())
      #expect(try others(nvram) == all(.closed, 8))
      asks(nvram)
      #expect(nvram.closes())
    }
  }

  @Test("start, lock, unlock and register throw while close waits for a completion, and don't wait for it")
  func meanwhile() throws {
    let nvram = try registered(Recorder())
    try nvram.start(failOnEncryptedDrive: true)
    let (called, goOn) = (Latch(), Latch())
    try nvram.submit("state", content(1)) { _ in
      called.open()
      goOn.wait()
    }
    try #require(called.wait())
    let closing = Running { try nvram.close() }
    #expect(eventually { nvram.machine.withLock { $0.isClosed } })
    #expect(try others(nvram) == all(.closed, 8))
    #expect(try requests(nvram) == all(.closed, Call.allCases.count))
    asks(nvram)
    #expect(!closing.hasEnded)
    goOn.open()
    #expect(closing.ends())
    #expect(failure { try closing.wait() } == nil)
  }

  /// A device may go after the NVRAM: nothing calls its callback any more, and what it holds is let go.
  @Test("an entry may be deregistered after the NVRAM was closed, once")
  func deregistered() throws {
    let nvram = try registered(Recorder())
    try nvram.start(failOnEncryptedDrive: true)
    try nvram.write("device") { _ in }
    #expect(nvram.closes())
    #expect(
      try codes([
        { try nvram.deregister(entry: "device") }, { try nvram.deregister(entry: "device") },
        { try nvram.deregister(entry: "other") },
      ]) == [nil, .notRegistered, .notRegistered])
  }
}

extension NVRAM {
  /// Formats it, which only one that isn't closed and wasn't started allows.
  fileprivate func formatAgain() throws(NVRAMError) {
    try format(key: TestPlace.key(1), slotName: "a", replacing: true)
  }
}
