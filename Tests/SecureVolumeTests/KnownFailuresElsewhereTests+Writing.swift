import BlockIO
import Crypto
import Glibc
import Primitives
import StorageSimulation
import Testing

@testable import SecureVolume

/// The cases of power cuts, barriers and failing writes.
extension KnownFailuresElsewhereTests {
  // MARK: Case 6

  /// Formatting by itself is cut everywhere in `PowerCutTests.formattingIsAllOrNothing`; here nothing believes what
  /// is left and nothing makes a store of it.
  @Test("case 6: what a format that was cut short leaves is never opened, by reading or writing, nor written to")
  func case6FormatCutShort() throws {
    let content: Stamps = [7, 8, 9]
    let disk = SimulatedDisk(size: Self.geometry.imageSize)
    var random = SeededGenerator(seed: 6)
    var (refused, whole) = (0, 0)
    disk.afterOperation = { _ in
      for _ in 0..<10 {
        let left = disk.crashed(using: &random)
        do throws(VolumeError) {
          let volume = try open(left, makeKey(1))
          #expect((try? contents(volume)) == content)
          whole += 1
        } catch {
          refused += 1
          let reasons: [VolumeError.Code] = [.notAnImage, .notAuthentic(.header), .wrongKey]
          #expect(reasons.contains(error.code), "\(error)")
          #expect(left.writes == 0, "a refused image was written to")
        }
      }
    }
    try format(disk, Self.geometry, key: makeKey(1), content: content)
    disk.afterOperation = nil
    #expect(refused > 0 && whole > 0)
    print("format cut short: \(refused) refused, \(whole) whole, 0 empty stores")
  }

  @Test("case 6: zeroed headers never make a store") func case6ZeroedHeaders() throws {
    let (bytes, content, _) = try TamperingTests.makeImage(Self.geometry, clean: true)
    let zeros = [UInt8](repeating: 0, count: 36864)
    for (copies, expected): ([Int], Outcome) in [
      ([0, 65536], .refused(.notAnImage)), ([0], .refused(.notAuthentic)), ([65536], .reported),
    ] {
      let disk = SimulatedDisk(copyOf: bytes)
      for copy in copies { disk.overwrite(ByteOffset(copy), with: zeros) }
      let before = disk.bytes
      if case .refused = expected {
        #expect(throws: VolumeError.self) { _ = try open(disk, makeKey(1)) }
        #expect(disk.bytes == before && disk.writes == 0)
      }
      #expect(TamperingTests.outcome(SimulatedDisk(copyOf: before, isWritable: false), expected: content) == expected)
    }
  }

  // MARK: Case 7

  @Test("case 7: an error at any read of an opening is that error, or told; nothing is taken for new, nothing lost")
  func case7EveryReadOfAnOpeningFails() throws {
    let live = try Self.live()
    let whole = SimulatedDisk(copyOf: live.bytes, isWritable: false)
    _ = try open(whole, makeKey(1))
    var (opened, retried) = (0, 0)
    for errno in [EIO, ENXIO, ENOMEM] {
      for read in 1...whole.reads {
        let disk = SimulatedDisk(copyOf: live.bytes, isWritable: false)
        disk.inject(.fails(errno: errno), at: .read(read))
        do throws(VolumeError) {
          // One header copy suffices for reading (FORMAT §2).
          let volume = try open(disk, makeKey(1))
          let findings = volume.opening.findings.map(\.code)
          if findings == [] { retried += 1 } else { opened += 1 }
          #expect(findings == [] || findings == [.unreadable], "read \(read)")
          #expect((try? contents(volume)) == live.contents[3])
        } catch {
          guard case .device = error.code else {
            Issue.record(error)
            continue
          }
        }
        #expect(try contents(open(disk, makeKey(1))) == live.contents[3])
      }
    }
    #expect(opened == 3 * 2, "with either header copy")
    // What is read in one piece is read again block by block, and verified as ever: leaf table and ring.
    #expect(retried == 3 * 2)
    #expect(TamperingTests.outcome(SimulatedDisk(copyOf: [], isWritable: true), expected: []) == .refused(.notAnImage))
  }

  // MARK: Case 9

  /// Whether every write to the ring keeps off the records that a header copy on the medium still begins with: looked
  /// up in the durable bytes alone, by FORMAT §2 and §7.
  private final class RingWatch {
    private let disk: SimulatedDisk
    private let lost: [UInt8]?
    private let ring: Range<Int>
    private var start = 0
    private var sequence: UInt64 = 0
    private var length = 0
    private(set) var violations: [String] = []
    private(set) var reused = 0
    private(set) var records = 0

    /// - Parameter lost: what copy A has on a medium that never gets it.
    init(_ disk: SimulatedDisk, _ geometry: Geometry, lost: [UInt8]? = nil) {
      (self.disk, self.lost) = (disk, lost)
      ring = Int(geometry.ringOffset)..<Int(geometry.leafOffset)
    }

    func look() {
      guard let write = disk.log.last, write.kind == .write, ring.contains(Int(write.offset.value)) else { return }
      let offset = Int(write.offset.value)
      let bytes = disk.bytes
      if Array(bytes[offset..<offset + 8]) == Format.recordMagic,
        Self.number(bytes, offset + 80) == offset - ring.lowerBound
      {
        if start > offset { reused += 1 }
        (start, length, sequence) = (offset, 0, UInt64(Self.number(bytes, offset + 16)))
        records += 1
      }
      length += write.count
      var durable = disk.durableBytes
      if let lost { durable.replaceSubrange(0..<lost.count, with: lost) }
      for copy in [0, 65536] {
        let position = ring.lowerBound + Self.number(durable, copy + 168)
        let next = UInt64(Self.number(durable, copy + 176))
        // Between this header's position and the new record lie records that it needs, unless it is the very next.
        var kept = (start - position + ring.count) % ring.count
        if kept == 0, sequence != next { kept = ring.count }
        if kept + length > ring.count {
          violations.append("\(write): over records that header \(copy == 0 ? "A" : "B") needs, from \(position)")
        }
      }
    }

    private static func number(_ bytes: [UInt8], _ offset: Int) -> Int {
      (0..<8).reversed().reduce(0) { $0 << 8 | Int(bytes[offset + $1]) }
    }
  }

  private func watchedWork(_ geometry: Geometry, commits: Int) throws -> RingWatch {
    let disk = SimulatedDisk(size: geometry.imageSize)
    try format(disk, geometry, key: makeKey(1))
    let volume = try open(disk, makeKey(1))
    let watch = RingWatch(disk, geometry)
    disk.afterOperation = { _ in watch.look() }
    var random = SeededGenerator(seed: 9)
    for step in 1...commits {
      let sectors = (0..<Int(geometry.sectorCount)).shuffled(using: &random).prefix(
        Int.random(in: 1...4, using: &random))
      try volume.commit(changes(geometry.blockSize, sectors.map { ($0, UInt64(step * 100 + $0)) }))
      _ = try volume.maintain()
    }
    disk.afterOperation = nil
    return watch
  }

  @Test(
    "case 9: ring space is written again only when both headers on the medium have let go of it",
    arguments: PowerCutTests.geometries)
  func case9NoRingSpaceBeforeItsHeaders(_ geometry: Geometry) throws {
    let watch = try watchedWork(geometry, commits: 400)
    #expect(watch.violations == [])
    #expect(watch.reused >= 3, "the ring went round \(watch.reused) times")
    print("ring watched: \(watch.records) records, \(watch.reused) times round")
  }

  @Test("case 9: a device that loses one header sees it overtaken: the watch can tell") func case9TheWatchCanTell()
    throws
  {
    let geometry = PowerCutTests.geometries[0]
    let disk = SimulatedDisk(size: geometry.imageSize)
    try format(disk, geometry, key: makeKey(1))
    let volume = try open(disk, makeKey(1))
    // As if every write of copy A were put back: the medium never lets go of the ring's first record.
    let watch = RingWatch(disk, geometry, lost: Array(disk.durableBytes[Place.headers[0]]))
    disk.afterOperation = { _ in watch.look() }
    for step in 1...200 {
      try volume.commit(changes(geometry.blockSize, [(step % 12, UInt64(step))]))
      _ = try volume.maintain()
    }
    disk.afterOperation = nil
    #expect(!watch.violations.isEmpty)
  }

  // MARK: Case 10

  /// Every other kind of failure at every operation is in `FailedWriteTests`; here what fails is the write of a
  /// header, and it lands after power went.
  @Test("case 10: a header write that reports an error and lands later") func case10HeaderWriteLandsLater() throws {
    let geometry = PowerCutTests.geometries[0]
    var tried = 0
    // Which writes of this workload are headers is seen in one without faults.
    let plain = SimulatedDisk(size: geometry.imageSize)
    try format(plain, geometry, key: makeKey(1))
    let image = plain.bytes
    func work(_ disk: SimulatedDisk) -> (acknowledged: UInt64, requested: UInt64) {
      var (acknowledged, requested) = (UInt64(0), UInt64(0))
      do {
        let volume = try open(disk, makeKey(1))
        for step in 1...6 {
          requested = UInt64(step)
          try volume.commit(changes(4096, [(0, requested)]))
          acknowledged = requested
          if step % 2 == 0 {
            try volume.startCheckpoint()
            try volume.finishCheckpoint()
          }
        }
        try volume.close()
      } catch {}
      return (acknowledged, requested)
    }
    let seen = SimulatedDisk(copyOf: image)
    _ = work(seen)
    let headers = seen.log.filter { $0.kind == .write && [0, 65536].contains($0.offset.value) }.map(\.number)
    try #require(headers.count >= 10)
    for operation in headers {
      for seed in 0..<20 {
        let disk = SimulatedDisk(copyOf: image)
        disk.inject(.failsLandsLater(errno: EIO), at: .operation(operation))
        let (acknowledged, requested) = work(disk)
        var random = SeededGenerator(seed: UInt64(seed))
        let found = try contents(open(disk.crashed(using: &random), makeKey(1)))[0]
        #expect(found == acknowledged || found == requested, "operation \(operation)")
        // And where the machine stays up: recovered with the failed write still waiting, then cut.
        disk.clearFaults()
        let again = try open(disk, makeKey(1))
        let settled = try contents(again)[0]
        #expect(settled == acknowledged || settled == requested)
        #expect(try contents(open(disk.crashed(using: &random), makeKey(1)))[0] == settled, "operation \(operation)")
        tried += 2
      }
    }
    print("header writes that landed later: \(headers.count) places, \(tried) states")
  }

  @Test(
    "case 10: a header that can't be read isn't written, nor taken for absent; its twin serves for reading, and that is told"
  )
  func case10HeaderUnreadable() throws {
    let live = try Self.live()
    let (clean, content, _) = try TamperingTests.makeImage(Self.geometry, clean: true)
    for (bytes, expected) in [(live.bytes, live.contents[3]), (clean, content)] {
      for blocks in [[0], [1], [8], [16], [17], [24], [0, 16]] {
        for isWritable in [true, false] {
          let disk = SimulatedDisk(copyOf: bytes, isWritable: isWritable)
          for block in blocks { disk.makeUnreadable(block: block) }
          if !isWritable, blocks.allSatisfy({ $0 < 16 }) || blocks.allSatisfy({ $0 >= 16 }) {
            let volume = try open(disk, makeKey(1))
            #expect(volume.opening.findings.map(\.code) == [.unreadable])
            #expect(try contents(volume) == expected)
          } else {
            #expect(throws: VolumeError(.device(.inputOutput), store: "", "")) { _ = try open(disk, makeKey(1)) }
          }
          #expect(disk.writes == 0)
          disk.clearFaults()
          #expect(try contents(open(disk, makeKey(1))) == expected)
        }
      }
    }
  }
}
