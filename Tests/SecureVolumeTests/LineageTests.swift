import BlockIO
import Crypto
import Primitives
import StorageSimulation
import Testing

@testable import SecureVolume

/// The pasts of a store (FORMAT §2, Lineage): 64 of them, and the one that an anchor knows.
struct LineageTests {
  /// An anchor in memory.
  private final class Memory: FreshnessAnchor {
    let name = "memory"
    var records: [[UInt8]] = []
    func recall(_ store: StoreUUID, forWriting: Bool) throws(AnchorError) -> AnchorMemory {
      guard !records.isEmpty else { throw AnchorError(.missing, anchor: name, "is not there") }
      return .records(records)
    }
    func confirm() throws(AnchorError) {}
    func establish(for store: StoreUUID, keeping index: Int?, replacing: Bool) throws(AnchorError) {}
    func store(_ sealed: borrowing ByteBuffer, _ moment: AnchorMoment) throws(AnchorError) {
      records = [sealed.span.array]
    }
  }

  private func make() throws -> (SimulatedDisk, Memory) {
    let geometry = try #require(Geometry(blockSize: 4096, sectorCount: 3))
    let (disk, anchor) = (SimulatedDisk(size: geometry.imageSize), Memory())
    try VolumeFormatter.format(
      disk, geometry: geometry, key: makeKey(1), name: "k", created: 1, content: { _, _ in }, anchor: anchor)
    return (disk, anchor)
  }

  /// The values of a header's entries, as they lie there.
  private func entries(_ bytes: [UInt8]) -> [[UInt8]] {
    (0..<Int(bytes[296])).map { Array(bytes[304 + 40 * $0..<304 + 40 * $0 + 32]) }
  }

  @Test func sixtyFourEntriesTheNewestLast() throws {
    let (disk, _) = try make()
    var values = entries(disk.bytes)
    #expect(values.count == 1)
    for opening in 1...100 {
      let volume = try open(disk, makeKey(1))
      try volume.commit(changes(4096, [(0, UInt64(opening))]))
      if opening % 3 == 0 { try volume.close() }
      let now = entries(disk.bytes)
      #expect(now.count == min(64, opening + 1) && !values.contains(now.last ?? []))
      values = Array((values + [now.last ?? []]).suffix(64))
      #expect(now == values)
    }
    // Each has the generation of its epoch's last header, but the newest.
    let lineage = try open(SimulatedDisk(copyOf: disk.bytes, isWritable: false), makeKey(1)).header.lineage.entries
    #expect(lineage.last?.last == 0 && lineage.dropLast().map(\.last) == lineage.dropLast().map(\.last).sorted())
    #expect(lineage[62].last >= 98)
  }

  /// Openings without the anchor, as a crash loop or an anchor that can't be reached has them, don't look like a fork.
  @Test(arguments: [10, 63, 64, 65, 200], [true, false])
  func anchoredSurvives(openings: Int, commits: Bool) throws {
    let (disk, anchor) = try make()
    do {
      let volume = try SealedVolume(disk).unlock(with: makeKey(1), anchor: anchor)
      try volume.commit(changes(4096, [(0, 1)]))
      try volume.close()
    }
    let bytes = anchor.records[0]
    let parsed = AnchorRecord(parsing: bytes.span)
    let record = try #require(parsed)
    for opening in 0..<openings {
      let volume = try open(disk, makeKey(1))
      if commits { try volume.commit(changes(4096, [(1, UInt64(opening + 1))])) }
    }
    let header = try open(SimulatedDisk(copyOf: disk.bytes, isWritable: false), makeKey(1)).header
    #expect(header.lineage.anchored?.value == record.lineage)
    #expect(header.lineage.anchored?.last == record.generation.value)
    #expect(header.lineage.entries.contains { $0.value == record.lineage } == (openings < 64))
    let volume = try SealedVolume(disk).unlock(with: makeKey(1), anchor: anchor)
    #expect(volume.opening.anchor?.verdict == .ahead)
    try volume.close()
    #expect(try SealedVolume(disk).unlock(with: makeKey(1), anchor: anchor).opening.anchor?.verdict == .current)
  }

  /// Two copies of an image that went on apart: the one that its anchor doesn't know is refused, however far it went.
  @Test(arguments: [1, 70]) func aForkThatWentFurther(openings: Int) throws {
    let (disk, anchor) = try make()
    try SealedVolume(disk).unlock(with: makeKey(1), anchor: anchor).close()
    let fork = disk.copy()
    let volume = try SealedVolume(disk).unlock(with: makeKey(1), anchor: anchor)
    try volume.commit(changes(4096, [(0, 1)]))
    try volume.close()
    for opening in 0..<openings {
      let volume = try open(fork, makeKey(1))
      for step in 0..<5 { try volume.commit(changes(4096, [(1, UInt64(10 * opening + step + 1))])) }
      try volume.close()
    }
    let before = fork.bytes
    #expect(thrownError { _ = try SealedVolume(fork).unlock(with: makeKey(1), anchor: anchor) }?.code == .forked)
    #expect(fork.bytes == before)
    #expect(try SealedVolume(disk).unlock(with: makeKey(1), anchor: anchor).opening.anchor?.verdict == .current)
  }
}
