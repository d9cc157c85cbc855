import BlobStore
import Glibc
import Primitives
import SecureVolume

/// A durable commit of 4 KiB into a store, beside SQLite (WAL, synchronous=FULL) and LMDB, and beside pwrite and
/// fdatasync of as many bytes as the commit writes: on the same file system, in turns of 50, so that the disk's drift
/// hits all alike.
func benchmarkCommit(_ directory: String) throws -> Table {
  let store = try StoreOfOneEntry(directory)
  let size = try store.bytesPerCommit()
  let medium = SyncedFile(directory + "/raw", pieces: size)
  let peers = Peers(directory + "/peers", directory: directory)
  let (turn, warmUp, rounds) = (50, 4, 80)
  var samples = [Sample](repeating: Sample(), count: 4)
  for round in 0..<warmUp + rounds {
    if round == warmUp { store.upkeep = 0 }
    for place in 0..<4 {
      let contender = (round + place) % 4
      let times =
        switch contender {
        case 0: try (0..<turn).map { _ in try store.commit() }
        case 1: (0..<turn).map { operation in timed { medium.write(round * turn + operation) } }
        case 2: peers.update(.sqlite, turn)
        default: peers.update(.lmdb, turn)
        }
      if round >= warmUp { for time in times { samples[contender].add(time) } }
    }
  }
  let upkeep = Double(store.upkeep) / 1000 / Double(rounds * turn)
  try store.close()
  return commitTable(samples, size: size, upkeep: upkeep)
}

/// - Parameters:
///   - samples: of the store, of pwrite and fdatasync of `size` bytes, of SQLite, of LMDB.
///   - upkeep: what the store's checkpoints add to a commit, on average, in microseconds.
private func commitTable(_ samples: [Sample], size: Int, upkeep: Double) -> Table {
  let names = ["here", "pwrite + fdatasync of \(size) bytes", "SQLite (WAL, FULL)", "LMDB"]
  let asked = ["≤ 1.10", "", "reported", "reported"]
  var table = Table([
    "durable commit of 4 KiB, µs", "median", "p99", "mean with checkpoints", "median to pwrite + fdatasync",
    "p99 to it", "asked",
  ])
  for (i, sample) in samples.enumerated() {
    let (median, slow) = (sample.median, sample.percentile(0.99))
    table.add(row: [
      names[i], Table.number(median), Table.number(slow), Table.number(sample.mean + (i == 0 ? upkeep : 0)),
      Table.number(median / samples[1].median), Table.number(slow / samples[1].percentile(0.99)), asked[i],
    ])
  }
  return table
}

/// A store whose one entry is replaced, all of it, by each commit.
private final class StoreOfOneEntry {
  private let made: TestStore
  private let volume: SecureVolume
  private let store: BlobStore
  private var round: UInt8 = 0
  /// Nanoseconds of what was done between commits, checkpoints above all.
  var upkeep: UInt64 = 0

  init(_ directory: String) throws {
    made = try TestStore(directory, "commit", capacity: 4096)
    volume = try made.open()
    store = try BlobStore(volume)
    _ = try commit()
  }

  /// How long a commit takes, in nanoseconds.
  func commit() throws -> UInt64 {
    round &+= 1
    let content = [UInt8](repeating: round, count: 4096)
    let time = try timed {
      try store.stageReplace("content", content.span)
      try store.commit()
    }
    upkeep += try timed { while try volume.maintain() {} }
    return time
  }

  /// What one commit writes, without a checkpoint, as the kernel counts it: the least of some.
  func bytesPerCommit() throws -> Int {
    var least = Int.max
    for _ in 0..<5 {
      let before = Self.bytesWritten()
      _ = try commit()
      least = min(least, Self.bytesWritten() - before)
    }
    return least
  }

  private static func bytesWritten() -> Int { ChildProcess.number(getpid(), "io", "wchar") }

  func close() throws { try volume.close() }
}

/// Eight threads that write entries of their own through one NVRAM, against one that does.
func benchmarkConcurrency(_ directory: String, _ table: inout Table) throws {
  let one = try commits(directory, writers: 1)
  let eight = try commits(directory, writers: 8)
  table.add(
    "8 concurrent writers, commits/s", "\(Int(eight.perSecond)) (\(Table.number(eight.perSync)) a sync)",
    "one writer: \(Int(one.perSecond))", eight.perSecond / one.perSecond, "≥ 3")
}

private func commits(_ directory: String, writers: Int) throws -> (perSecond: Double, perSync: Double) {
  let names = try (0..<writers).map { try EntryName("entry\($0)" as String) }
  let running = try RunningNVRAM(directory, names)
  let rounds = 3000
  let before = running.nvram.generation?.value ?? 0
  let nanoseconds = timed {
    let threads = names.map { name in
      BenchmarkThread { [nvram = running.nvram] in
        var content = [UInt8](repeating: 1, count: 4096)
        for round in 0..<rounds {
          content[0] = UInt8(truncatingIfNeeded: round)
          do { try nvram.replaceContent(name, content.span) } catch { fatalError("\(error)") }
        }
      }
    }
    for thread in threads { thread.join() }
  }
  let syncs = (running.nvram.generation?.value ?? 0) - before
  try running.close()
  let commits = Double(rounds * writers)
  return (commits / (Double(nanoseconds) / 1e9), commits / Double(max(1, syncs)))
}
