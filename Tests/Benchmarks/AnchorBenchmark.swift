import Anchors
import BlobStore
import BlockIO
import Glibc
import Primitives
import SecureVolume

/// What a file anchor costs: durable commits of one 4 KiB entry into two stores, one with an anchor and one without,
/// turn about on the same file system. The medians say what one commit waits for; the means have the checkpoints in
/// them, and the anchor with them.
func benchmarkAnchor(_ directory: String, _ table: inout Table) throws {
  for every in [SecureVolume.standardCommitsPerAnchor, 1] {
    let (with, without) = (
      try AnchoredStore(directory, "with", anchor: directory + "/anchor", every: every),
      try AnchoredStore(directory, "without", anchor: nil, every: every)
    )
    for round in 0..<4200 {
      try with.commit(round, counts: round >= 200)
      try without.commit(round, counts: round >= 200)
    }
    let note = every == 1 ? "checkpoint and anchor after each" : "anchor every \(every) commits"
    table.add(
      "durable commit, \(note), µs", with.single.text, "without: \(without.single.text)",
      with.single.median / without.single.median, every == 1 ? "reported" : "≤ 1.1")
    table.add(
      "the same with checkpoints, mean, µs", Table.number(with.mean), "without: \(Table.number(without.mean))",
      with.mean / without.mean, "reported")
    try with.close()
    try without.close()
  }
}

private final class AnchoredStore {
  private let made: TestStore
  private let volume: SecureVolume
  private let store: BlobStore
  private let anchor: FileAnchor?
  private let path: String?
  private var total: UInt64 = 0
  private var count: UInt64 = 0
  var single = Sample()

  /// Nanoseconds in microseconds.
  var mean: Double { Double(total) / Double(max(1, count)) / 1000 }

  init(_ directory: String, _ name: String, anchor path: String?, every: UInt64) throws {
    made = try TestStore(directory, name, capacity: 4096)
    self.path = path
    let device = try FileDevice.open(path: made.path, access: .readWrite)
    let sealed = try SealedVolume(device)
    if let path {
      let anchor = FileAnchor(path: path)
      self.anchor = anchor
      volume = try sealed.unlock(with: made.encryptionKey, accepting: anchor)
    } else {
      anchor = nil
      volume = try sealed.unlock(with: made.encryptionKey)
    }
    volume.commitsPerAnchor = every
    store = try BlobStore(volume)
  }

  func commit(_ round: Int, counts: Bool) throws {
    let content = [UInt8](repeating: UInt8(truncatingIfNeeded: round), count: 4096)
    let commit = try timed {
      try store.stageReplace("content", content.span)
      try store.commit()
    }
    // A step after each commit, as under load (NVRAM+Upkeep).
    let upkeep = try timed { _ = try volume.maintain() }
    guard counts else { return }
    single.add(commit)
    total += commit + upkeep
    count += 1
  }

  func close() throws {
    try volume.close()
    anchor?.release()
    if let path { _ = unsafe unlink(path) }
  }
}
