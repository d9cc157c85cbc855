import Audit
import BlobStore
import Glibc
import Primitives
import SecureVolume
import VNVRAM

/// A durable commit of one 4 KiB entry, against pwrite and fdatasync of the bytes that its journal record has: on the same
/// file system, alternating.
func benchmarkCommit(_ directory: String, _ table: inout Table) throws {
  let made = try TestStore(directory, "commit", capacity: 4096)
  let volume = try made.open()
  let store = try BlobStore(volume)
  var content = [UInt8](repeating: 7, count: 4096)
  try store.stageReplace("content", content.span)
  try store.commit()
  // What a record of one sector takes: fixed part, entry, MAC and sector, in whole blocks.
  let journalBytes = 8192
  let raw = unsafe open(directory + "/raw", O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
  defer {
    close(raw)
    _ = unsafe unlink(directory + "/raw")
  }
  let ring = 262_144
  let filler = [UInt8](repeating: 1, count: ring)
  _ = unsafe filler.withUnsafeBytes { unsafe pwrite(raw, $0.baseAddress, ring, 0) }
  fsync(raw)
  var (ours, theirs) = (Sample(), Sample())
  for round in 0..<4000 {
    content[0] = UInt8(truncatingIfNeeded: round)
    let commit = try timed {
      try store.stageReplace("content", content.span)
      try store.commit()
    }
    while try volume.maintain() {}
    let offset = round * journalBytes % ring
    let plain = timed {
      _ = unsafe filler.withUnsafeBytes { unsafe pwrite(raw, $0.baseAddress, journalBytes, offset) }
      fdatasync(raw)
    }
    if round >= 200 {
      ours.add(commit)
      theirs.add(plain)
    }
  }
  try volume.close()
  table.add(
    "durable commit of a 4 KiB entry, µs", ours.text, "pwrite + fdatasync of \(journalBytes) bytes: \(theirs.text)",
    ours.median / theirs.median, "≤ 1.3")
}

/// Eight threads that write entries of their own through one NVRAM, against one that does.
func benchmarkConcurrency(_ directory: String, _ table: inout Table) throws {
  let one = try commitsPerSecond(directory, writers: 1)
  let eight = try commitsPerSecond(directory, writers: 8)
  table.add(
    "8 concurrent writers, commits/s", "\(Int(eight))", "one writer: \(Int(one))", eight / one, "≥ 3")
}

private func commitsPerSecond(_ directory: String, writers: Int) throws -> Double {
  let path = directory + "/writers"
  defer { _ = unsafe unlink(path) }
  let names = try (0..<writers).map { try EntryName("entry\($0)" as String) }
  let specifications = names.map { EntrySpecification(name: $0, capacity: ByteCount(4096)) }
  let store = try TestStoreWithEntries(path, specifications)
  let nvram = try NVRAM.setUp(path: path, audit: AuditLog(.none))
  for name in names { try nvram.register(entry: name, capacity: ByteCount(4096)) }
  try nvram.start(failOnEncryptedDrive: false)
  try nvram.unlock(with: store.encryptionKey)
  let rounds = 3000
  let nanoseconds = timed {
    let threads = names.map { name in
      BenchmarkThread {
        var content = [UInt8](repeating: 1, count: 4096)
        for round in 0..<rounds {
          content[0] = UInt8(truncatingIfNeeded: round)
          do { try nvram.replaceContent(name, content.span) } catch { fatalError("\(error)") }
        }
      }
    }
    for thread in threads { thread.join() }
  }
  try nvram.close()
  return Double(rounds * writers) / (Double(nanoseconds) / 1e9)
}
