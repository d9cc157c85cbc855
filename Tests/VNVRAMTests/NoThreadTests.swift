import Audit
import BlockIO
import Glibc
import Primitives
import Testing

@testable import VNVRAM

/// The system's threads, of which there are none when a test says so.
private final class ScarceThreads: SimulatedThreads {
  private let parkers = Locked<[Parker]>([])
  private let starts = Locked(0)
  /// Numbers of the starts that fail.
  private let failing: Set<Int>

  init(failing: Set<Int>) { self.failing = failing }

  var startsSoFar: Int { starts.withLock { $0 } }
  var now: Instant { .now }
  var current: Threads.ID { Threads.system.current }
  func yield() {}

  func makeParker() -> Int {
    parkers.withLock { parkers in
      parkers.append(Parker(.system))
      return parkers.count - 1
    }
  }

  private func parker(_ number: Int) -> Parker { parkers.withLock { $0[number] } }
  func park(_ number: Int, until deadline: Instant?) { parker(number).park(until: deadline) }
  func unpark(_ number: Int) { parker(number).unpark() }
  func join(_ thread: Threads.ID) { Threads.system.join(thread) }

  func start(_ body: @escaping @Sendable () -> Void) throws(SystemThread.Failure) -> Threads.ID {
    let number = starts.withLock { starts in
      starts += 1
      return starts
    }
    if failing.contains(number) { throw SystemThread.Failure(errno: EAGAIN) }
    return try Threads.system.start(body)
  }
}

/// Where the system gives no thread, nothing is left half done.
struct NoThreadTests {
  private let place: TestPlace

  init() throws {
    place = try TestPlace()
    try place.makeStore(["state": 4096])
    try place.bring("a", 1)
  }

  private func nvram(_ threads: ScarceThreads) throws -> NVRAM {
    let nvram = NVRAM(
      try FileDevice.open(path: place.image, access: .readWrite), audit: AuditLog(.none), configuration: .init(),
      anchor: nil, threads: .simulated(threads))
    try nvram.register(entry: "state", capacity: ByteCount(4096))
    return nvram
  }

  private func hasCore(_ nvram: NVRAM) -> Bool? {
    nvram.machine.withLock { if case .here(let store) = $0.custody { store.core != nil } else { nil } }
  }

  /// The calls on threads of their own: what hangs is a failure of the test and no more.
  private func start(_ nvram: NVRAM) throws -> NVRAMError.Code? {
    let starting = Running { failure { try nvram.start(failOnEncryptedDrive: true) }?.code }
    try #require(starting.ends())
    return try starting.wait()
  }

  @Test("start without a thread throws, closes the store, and succeeds the next time", arguments: 1...2)
  func startAgain(_ number: Int) throws {
    let threads = ScarceThreads(failing: [number])
    let nvram = try nvram(threads)
    let told = Recorder<NVRAMEvent>()
    nvram.observe { told.add($0) }
    #expect(try start(nvram) == .noThread)
    #expect(nvram.state == .closed && hasCore(nvram) == false && nvram.generation == nil)
    #expect(failure { try nvram.replace("state", content(1)) }?.code == .notStarted)
    #expect(try start(nvram) == nil)
    // One of each: the one that there was goes on.
    #expect(threads.startsSoFar == 3)
    #expect(nvram.machine.withLock { $0.workers.count } == 2)
    let completed = Latch()
    try nvram.submit("state", content(2)) { _ in completed.open() }
    #expect(completed.wait())
    #expect(try nvram.readContent("state") == content(2))
    #expect(nvram.closes())
    #expect(told.states == ["running", "closed"])
    #expect(try place.content("state", capacity: 4096) == content(2))
  }

  @Test("close after a start without a thread doesn't hang", arguments: [[1], [2], [1, 2], [2, 3]])
  func closed(_ failing: [Int]) throws {
    let nvram = try nvram(ScarceThreads(failing: Set(failing)))
    for _ in failing { #expect(try start(nvram) == .noThread) }
    #expect(nvram.closes())
    #expect(nvram.machine.withLock { $0.workers.count } == 0)
    #expect(try place.content("state", capacity: 4096) == [])
  }
}
