import Foundation
import Synchronization
import Testing

@testable import VTPM

/// A log never waits, whatever its descriptor is. Each of these would stand still where it did.
@Suite struct LogOutputTests {
  /// A pipe or a pair of sockets: one end to read, which doesn't wait, and one to write, which does.
  private final class Channel: Sendable {
    let reading: Int32
    let writing: Int32
    private let isOpen = Atomic(true)

    init(sockets: Bool = false) throws {
      var ends: [Int32] = [-1, -1]
      let made = unsafe sockets ? socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) : pipe(&ends)
      try #require(made == 0)
      (reading, writing) = (ends[0], ends[1])
      _ = fcntl(reading, F_SETFL, O_NONBLOCK)
    }

    deinit {
      close(reading)
      closeWriting()
    }

    func closeWriting() {
      if isOpen.exchange(false, ordering: .relaxed) { close(writing) }
    }

    /// What is in it; nil at its end.
    func read() -> String? {
      var all: [UInt8] = []
      var buffer = [UInt8](repeating: 0, count: 65536)
      while true {
        let count = unsafe Foundation.read(reading, &buffer, buffer.count)
        if count == 0, all.isEmpty { return nil }
        guard count > 0 else { return String(decoding: all, as: UTF8.self) }
        all += buffer[..<count]
      }
    }
  }

  @Test(arguments: [false, true]) func whatIsLostIsCounted(sockets: Bool) throws {
    let channel = try Channel(sockets: sockets)
    let log = Log(descriptor: channel.writing, prefix: "p: ")
    let filling = String(repeating: "x", count: 1000)
    for index in 0..<2000 { log.line("\(index) \(filling)") }
    let before = try #require(channel.read())
    let whole = before.split(separator: "\n", omittingEmptySubsequences: false).dropLast()
    #expect(whole.count > 10 && whole.count < 2000)
    for (index, line) in whole.enumerated() { #expect(line == "p: \(index) \(filling)") }
    log.line("again")
    log.line("and again")
    let after = try #require(channel.read()).split(separator: "\n")
    let lost = 2000 - whole.count
    #expect(after.suffix(2) == ["p: again", "p: and again"])
    #expect(after.contains("p: \(lost) lines before this one could not be written, and are lost"), "\(after)")
  }

  /// The shell's terminal, or another program's standard error, is as it was.
  @Test func theDescriptionOfOthersStaysAsItIs() throws {
    for sockets in [false, true] {
      let channel = try Channel(sockets: sockets)
      let before = fcntl(channel.writing, F_GETFL)
      Log(descriptor: channel.writing).line("a line")
      #expect(fcntl(channel.writing, F_GETFL) == before)
      #expect(channel.read() == "vnvram-swtpm: a line\n")
    }
  }

  /// Who waits for the end of standard error isn't kept waiting by a descriptor of the log's own.
  @Test func letsGoOfWhatIsBeside() throws {
    let channel = try Channel()
    let log = Log(descriptor: -1, beside: channel.writing)
    log.line("one")
    log.setBeside(-1)
    log.line("two")
    channel.closeWriting()
    #expect(channel.read() == "vnvram-swtpm: one\n")
    #expect(channel.read() == nil, "it is at its end")
  }

  /// As where /proc can't be read.
  @Test func asksFirstWhereItCannotReopen() throws {
    let channel = try Channel()
    let output = LogOutput(channel.writing, reopens: false)
    for _ in 0..<100 { output.line(String(repeating: "x", count: 3000), prefix: "") }
    #expect(try #require(channel.read()).utf8.count < 100 * 3001)
    output.line("end", prefix: "p: ")
    #expect(try #require(channel.read()).hasSuffix(" are lost\nend\n"))
  }

  /// Cut between characters, so that a pipe takes a line whole or not at all.
  @Test func longLines() throws {
    let channel = try Channel()
    let log = Log(descriptor: channel.writing, prefix: "p: ")
    for character in ["x", "ü", "€"] {
      log.line(String(repeating: character, count: 100_000))
      let text = try #require(channel.read())
      #expect(text.utf8.count <= LogOutput.longest && text.utf8.count > LogOutput.longest - 8)
      #expect(text.hasPrefix("p: " + character) && text.hasSuffix(character + "... (cut)\n"))
    }
    let path = NSTemporaryDirectory() + "vnvram-log-\(UUID().uuidString)"
    defer { try? FileManager.default.removeItem(atPath: path) }
    let file = unsafe open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
    defer { close(file) }
    Log(descriptor: file).line(String(repeating: "x", count: 100_000))
    #expect(try Data(contentsOf: URL(fileURLWithPath: path)).count > 100_000, "a file takes all of it")
  }

  /// Lines are whole, each thread's in order, and none goes uncounted.
  @Test func manyThreads() throws {
    let channel = try Channel()
    let log = Log(descriptor: channel.writing, prefix: "")
    let (threads, each) = (8, 2000)
    let text = Mutex("")
    let isDone = Atomic(false)
    let reader = Thread {
      while !isDone.load(ordering: .acquiring) {
        if let more = channel.read() { text.withLock { $0 += more } }
      }
    }
    reader.start()
    DispatchQueue.concurrentPerform(iterations: threads) { thread in
      for index in 0..<each { log.line("\(thread) \(index) end") }
    }
    // So that what was lost last is said too; there may be no room for this one yet.
    var isSaid = false
    while !isSaid {
      log.line("last")
      isSaid = text.withLock { $0.contains("last\n") }
    }
    isDone.store(true, ordering: .releasing)
    var (next, lost, count) = ([Int](repeating: 0, count: threads), 0, 0)
    for line in text.withLock({ $0 }).split(separator: "\n") where line != "last" {
      let words = line.split(separator: " ")
      if words.last == "lost" {
        lost += try #require(Int(words[0]))
        continue
      }
      try #require(words.count == 3 && words[2] == "end", "\(line)")
      let (thread, index) = (try #require(Int(words[0])), try #require(Int(words[1])))
      #expect(index >= next[thread])
      next[thread] = index + 1
      count += 1
    }
    #expect(count + lost >= threads * each, "\(count) and \(lost)")
  }
}
