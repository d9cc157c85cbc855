import Audit
import BlobStore
import Glibc
import Primitives
import SecureVolume
import VNVRAM

/// An NVRAM that runs, on an image of its own with some entries of 4 KiB.
struct RunningNVRAM {
  let nvram: NVRAM
  private let path: String

  init(_ directory: String, _ entries: [EntryName]) throws {
    path = directory + "/nvram"
    let store = try TestStoreWithEntries(path, entries.map { EntrySpecification(name: $0, capacity: ByteCount(4096)) })
    nvram = try NVRAM.setUp(path: path, audit: AuditLog(.none))
    for entry in entries { try nvram.register(entry: entry, capacity: ByteCount(4096)) }
    try nvram.start(failOnEncryptedDrive: false)
    try nvram.unlock(with: store.encryptionKey)
  }

  func close() throws {
    defer { _ = unsafe unlink(path) }
    try nvram.close()
  }
}

/// What the NVRAM's calls cost: a commit and a read by one thread alone, and writes that nobody waits for.
func benchmarkNVRAM(_ directory: String, _ table: inout Table) throws {
  try benchmarkLoneCommit(directory, &table)
  try benchmarkCachedRead(directory, &table)
  try benchmarkAsynchronousWrites(directory, &table)
}

/// Beside pwrite and fdatasync of as many bytes as it writes, in turns of 50 (`benchmarkCommit`). The store's upkeep
/// is in it, where it comes in a writer's way.
private func benchmarkLoneCommit(_ directory: String, _ table: inout Table) throws {
  let running = try RunningNVRAM(directory, ["content"])
  var content = [UInt8](repeating: 1, count: 4096)
  func commit() throws -> UInt64 {
    content[0] &+= 1
    return try timed { try running.nvram.replaceContent("content", content.span) }
  }
  let size = try (0..<6).map { _ in
    let before = ChildProcess.number(getpid(), "io", "wchar")
    _ = try commit()
    return ChildProcess.number(getpid(), "io", "wchar") - before
  }.min()
  guard let size else { return }
  let medium = SyncedFile(directory + "/raw", pieces: size)
  let (turn, warmUp, rounds) = (50, 4, 80)
  var (ours, raw) = (Sample(), Sample())
  for round in 0..<warmUp + rounds {
    let commits = try (0..<turn).map { _ in try commit() }
    let writes = (0..<turn).map { operation in timed { medium.write(round * turn + operation) } }
    guard round >= warmUp else { continue }
    for time in commits { ours.add(time) }
    for time in writes { raw.add(time) }
  }
  try running.close()
  table.add("NVRAM: lone commit of 4 KiB, µs", ours, "pwrite + fdatasync of \(size) bytes", raw, "≤ 1.10")
}

private func benchmarkCachedRead(_ directory: String, _ table: inout Table) throws {
  let running = try RunningNVRAM(directory, ["content"])
  var content = [UInt8](repeating: 1, count: 4096)
  try running.nvram.replaceContent("content", content.span)
  let reads = 1000
  var sample = Sample()
  for round in 0...100 {
    let time = try timed {
      for _ in 0..<reads {
        _ = try running.nvram.readContent("content", at: ByteOffset(0), into: content.mutableSpan)
      }
    }
    // The sample's microseconds of a thousand reads are nanoseconds of one.
    if round > 0 { sample.add(time) }
  }
  try running.close()
  table.add("NVRAM: read of 4 KiB, its sectors in the page cache, ns", sample.text, "", nil, "reported")
}

/// Writes that are submitted one after the other without waiting; where the queue is full, again.
private func benchmarkAsynchronousWrites(_ directory: String, _ table: inout Table) throws {
  let running = try RunningNVRAM(directory, ["content"])
  let writes = AsynchronousWrites(1_000_000)
  let first = running.nvram.generation
  let before = ProcessMemory()
  let time = timed { writes.run(running.nvram) }
  let grown = ProcessMemory().peak - before.now
  let commits = zip(first, running.nvram.generation).map { $1.value - $0.value } ?? 0
  let seconds = Double(time) / 1e9
  try running.close()
  let sample = writes.sample
  table.add(
    "NVRAM: asynchronous writes of 64 bytes, writes/s", "\(Int(Double(sample.count) / seconds))",
    "commits/s: \(Int(Double(commits) / seconds))", nil, "reported")
  table.add(
    "  how many", "\(writes.accepted) accepted, \(sample.count) completed, \(writes.refused) refused as queue full",
    writes.end, nil, "all")
  table.add(
    "  from submitting to completion, µs",
    "median \(Table.number(sample.median)), p99 \(Table.number(sample.percentile(0.99))), "
      + "longest \(Table.number(sample.percentile(1)))", "", nil, "reported")
  table.add("  peak of memory, KiB more than before", "\(grown)", "", nil, "reported")
}

private func zip<T>(_ a: T?, _ b: T?) -> (T, T)? {
  guard let a, let b else { return nil }
  return (a, b)
}

/// Resident memory of this process in KiB, with its peak since the last one of these was made.
private struct ProcessMemory {
  let now: Int
  let peak: Int

  init() {
    now = ChildProcess.number(getpid(), "status", "VmRSS")
    peak = ChildProcess.number(getpid(), "status", "VmHWM")
    // 5 sets the peak back (proc_pid_clear_refs(5)).
    let file = unsafe open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC)
    _ = unsafe write(file, "5", 1)
    close(file)
  }
}

/// Many writes without waiting, and when each was told.
private final class AsynchronousWrites: Sendable {
  private struct Told {
    var times: [UInt64]
    var count = 0
  }

  private let told: Locked<Told>
  private let counts = Locked((accepted: 0, refused: 0, end: ""))
  private let wanted: Int
  /// It ends after a minute, and where so many wait to be told that there is no bound.
  private static let (limit, mostOutstanding) = (60_000_000_000 as UInt64, 100_000)

  init(_ count: Int) {
    wanted = count
    // All of it is touched now: it is not what is measured.
    told = Locked(Told(times: [UInt64](repeating: 1, count: count)))
  }

  var accepted: Int { counts.withLock { $0.accepted } }
  var refused: Int { counts.withLock { $0.refused } }
  var end: String { counts.withLock { $0.end } }
  private var completed: Int { told.withLock { $0.count } }

  /// Nanoseconds from submitting to completion.
  var sample: Sample { told.withLock { Sample($0.times.prefix($0.count)) } }

  func run(_ nvram: NVRAM) {
    let last = now() + Self.limit
    var (accepted, refused, end) = (0, 0, "")
    var content = [UInt8](repeating: 1, count: 64)
    while accepted < wanted, end.isEmpty {
      content[0] &+= 1
      let start = now()
      do throws(NVRAMError) {
        try nvram.replaceContent("content", content.span) { _ in self.complete(now() - start) }
        accepted += 1
        if accepted % 1024 == 0, accepted - completed > Self.mostOutstanding { end = "stopped: too many to be told" }
      } catch {
        guard error.code == .queueFull else { fatalError("\(error)") }
        refused += 1
        sched_yield()
      }
      if start > last { end = "stopped after a minute" }
    }
    while completed < accepted, now() < last { usleep(100) }
    counts.withLock { [accepted, refused, end] in $0 = (accepted, refused, end) }
  }

  private func complete(_ time: UInt64) {
    told.withLock { told in
      told.times[told.count] = time
      told.count += 1
    }
  }
}
