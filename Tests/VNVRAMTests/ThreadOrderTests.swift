import BlobStore
import Foundation
import Primitives
import Testing

@testable import VNVRAM

/// Eight threads on one NVRAM that read, write, lock, unlock, register and close: none waits for ever, and none sees
/// its own requests out of order. VNVRAM_TSAN_ROUNDS repeats the first one (`make tsan`).
struct ThreadOrderTests {
  static let threads = 8

  /// A locked store waits for one of the threads to poke it; so none waits for long.
  private static let patience = Duration.milliseconds(50)

  private static var rounds: Int {
    ProcessInfo.processInfo.environment["VNVRAM_TSAN_ROUNDS"].flatMap { Int($0) } ?? 1
  }

  /// Numbers that only grow, as content: the number eight times, so that a mix would show.
  private static func bytes(_ number: UInt64) -> [UInt8] {
    (0..<64).map { UInt8(truncatingIfNeeded: number >> (8 * UInt64($0 % 8))) }
  }

  private static func number(_ bytes: [UInt8]) -> UInt64? {
    let number = bytes.prefix(8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    return bytes == Self.bytes(number) ? number : nil
  }

  /// What one thread saw of its own entry. A write that failed may have landed; one that was acknowledged has.
  final class View: Sendable {
    struct State {
      var acknowledged: UInt64 = 0
      var requested: UInt64 = 0
      var completed: UInt64 = 0
      var reads = 0
      var complaints: [String] = []
    }
    let state = Locked(State())

    func complain(_ text: String) { state.withLock { $0.complaints.append(text) } }
  }

  /// Waits for the threads, and reports those that don't end instead of waiting with them.
  private func join(_ threads: [Running<Void>], _ seconds: Int = 120) throws {
    let end = ContinuousClock.now + .seconds(seconds)
    while threads.contains(where: { !$0.hasEnded }), ContinuousClock.now < end { usleep(2000) }
    let stuck = threads.indices.filter { !threads[$0].hasEnded }
    try #require(stuck == [], "threads that wait for ever")
    for thread in threads { try thread.wait() }
  }

  private func name(_ thread: Int) -> EntryName { EntryName(stringLiteral: "e\(thread)") }

  @Test("eight threads that read, write, lock, unlock and register see their own writes in order, and none is stuck")
  func ownWritesInOrder() throws {
    for _ in 0..<Self.rounds { try oneRound(closing: false) }
  }

  @Test("a close among eight threads' requests ends every one of them, and what was acknowledged is there")
  func closing() throws {
    for _ in 0..<max(5, Self.rounds) { try oneRound(closing: true) }
  }

  private func oneRound(closing: Bool) throws {
    let place = try TestPlace()
    let entries = Dictionary(uniqueKeysWithValues: (0..<Self.threads).map { ("e\($0)", UInt64(4096)) })
    try place.makeStore(entries.merging(["extra": 100]) { $1 })
    try place.bring("a", 1)
    let nvram = try place.nvram(entries) { $0.shortestKeySearchInterval = .milliseconds(1) }
    try nvram.start(failOnEncryptedDrive: true)
    let views = (0..<Self.threads).map { _ in View() }
    for thread in 0..<Self.threads { try nvram.replace(name(thread), Self.bytes(0)) }
    let threads = (0..<Self.threads).map { thread in
      Running {
        var random = SystemRandomNumberGenerator()
        for step in 0..<120 {
          if closing, thread == 0, step == 40 {
            try? nvram.close()
            return
          }
          self.step(nvram, place, thread, views[thread], Int.random(in: 0..<20, using: &random))
        }
      }
    }
    try join(threads)
    if !closing {
      nvram.poke()
      #expect(eventually { nvram.state == .running })
      try nvram.processRequests(deadline: .seconds(60))
      try nvram.close()
    }
    var (reads, acknowledged) = (0, UInt64(0))
    for thread in 0..<Self.threads {
      let view = views[thread].state.withLock { $0 }
      #expect(view.complaints == [], "thread \(thread)")
      let found = try #require(Self.number(try place.content("e\(thread)", capacity: 4096)))
      #expect(found >= view.acknowledged && found <= view.requested, "thread \(thread): \(found)")
      (reads, acknowledged) = (reads + view.reads, acknowledged + view.acknowledged)
    }
    print(
      "threads: \(Self.threads), \(acknowledged) writes, \(reads) reads, \(closing ? "closed under them" : "in order")")
  }

  /// One thing that a thread does. Only it writes its entry.
  private func step(_ nvram: NVRAM, _ place: TestPlace, _ thread: Int, _ view: View, _ kind: Int) {
    let entry = name(thread)
    switch kind {
    case 0..<7:
      let number = view.state.withLock { state in
        state.requested += 1
        return state.requested
      }
      if failure({ try nvram.replace(entry, Self.bytes(number), deadline: Self.patience) }) == nil {
        view.state.withLock { $0.acknowledged = number }
      }
    case 7..<10: submit(nvram, entry, view)
    case 10..<16: read(nvram, entry, view)
    case 16: if thread % 4 == 0 { try? nvram.lock() }
    case 17:
      nvram.poke()
      _ = try? place.bring("a", 1)
    case 18: reregister(nvram, thread)
    default: _ = failure { try nvram.processRequests(deadline: Self.patience) }
    }
  }

  /// A write that isn't waited for. Completions of one thread's requests come in its order.
  private func submit(_ nvram: NVRAM, _ entry: EntryName, _ view: View) {
    let number = view.state.withLock { state in
      state.requested += 1
      return state.requested
    }
    _ = failure {
      try nvram.submit(entry, Self.bytes(number), deadline: Self.patience) { result in
        view.state.withLock { state in
          if number <= state.completed { state.complaints.append("completion \(number) after \(state.completed)") }
          state.completed = number
          if case .success = result { state.acknowledged = max(state.acknowledged, number) }
        }
      }
    }
  }

  /// What a thread reads is what it last wrote and was told of, or a later one of its own.
  private func read(_ nvram: NVRAM, _ entry: EntryName, _ view: View) {
    let before = view.state.withLock { $0.acknowledged }
    var content: [UInt8] = []
    guard failure({ content = try nvram.readContent(entry, deadline: Self.patience) }) == nil else { return }
    let after = view.state.withLock { $0.requested }
    guard let number = Self.number(content) else { return view.complain("a mix was read: \(content)") }
    if number < before || number > after { view.complain("read \(number), acknowledged \(before), requested \(after)") }
    view.state.withLock { state in
      state.reads += 1
    }
  }

  /// Another entry of the image, registered and taken back by whoever comes first; another thread's may be in the way.
  private func reregister(_ nvram: NVRAM, _ thread: Int) {
    _ = failure { try nvram.register(entry: "extra", capacity: ByteCount(UInt64(100))) }
    _ = failure { try nvram.replace("extra", content(thread), deadline: Self.patience) }
    _ = failure { try nvram.deregister(entry: "extra") }
  }
}
