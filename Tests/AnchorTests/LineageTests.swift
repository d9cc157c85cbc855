import Anchors
import BlockIO
import Primitives
import StorageSimulation
import Testing

@testable import SecureVolume

/// Forks are told however far they went, and nothing that happens to one store alone looks like one.
struct LineageTests {
  private let image = newDisk()
  private let place = newAnchorDisk()

  init() throws {
    try format(image, anchor: FileAnchor(place))
    try use(image, FileAnchor(place), 1)
  }

  /// Opens, commits, closes.
  private func use(_ image: SimulatedDisk, _ anchor: FileAnchor?, _ stamp: UInt8, commits: Int = 1) throws {
    let volume = try open(image, anchor)
    for _ in 0..<commits { try commit(volume, stamp) }
    try volume.close()
  }

  private func expectFork(_ image: SimulatedDisk, _ what: String) {
    for isWritable in [true, false] {
      let copy = SimulatedDisk(copyOf: image.bytes, name: "image", isWritable: isWritable)
      let anchor = disk(place.bytes)
      #expect(refusal(copy, FileAnchor(anchor))?.code == .forked, "\(what)")
      #expect(copy.writes == 0 && anchor.operations == 0, "\(what)")
    }
  }

  // MARK: Forks

  @Test(arguments: [(1, 50), (20, 1), (70, 0), (70, 3), (300, 1)])
  func aCopyThatWentFurther(openings: Int, commits: Int) throws {
    let copy = disk(image.bytes)
    try use(image, FileAnchor(place), 2)
    for _ in 0..<openings { try use(copy, nil, 9, commits: commits) }
    #expect(throws: Never.self) { try open(disk(copy.bytes), nil) }
    // With fewer commits it is no further, and rolled back.
    if commits == 0 {
      #expect(refusal(disk(copy.bytes), FileAnchor(disk(place.bytes)))?.code == .rolledBack)
    } else {
      expectFork(copy, "\(openings) openings of \(commits) commits")
    }
    #expect(try stamp(open(image, FileAnchor(place))) == 2)
  }

  /// The copy has the epoch that the anchor knows: it left it earlier.
  @Test(arguments: [3, 100]) func aBackupOfARunningStoreThatWentOn(openings: Int) throws {
    let volume = try open(image, FileAnchor(place))
    volume.commitsPerAnchor = 2
    try commit(volume, 2)
    let copy = newDisk()
    let backup = try volume.copy(to: copy)
    #expect(backup.generation == volume.generation)
    let raw = disk(image.bytes)
    for i in 3...20 as ClosedRange<UInt8> {
      try commit(volume, i)
      while try volume.maintain() {}
    }
    #expect(volume.anchoredGeneration.map { $0 > backup.generation } == true)
    for image in [copy, raw] {
      #expect(refusal(disk(image.bytes), FileAnchor(disk(place.bytes)))?.code == .rolledBack)
      for _ in 0..<openings { try use(image, nil, 9, commits: 40) }
      expectFork(image, "\(openings) openings")
    }
    try volume.close()
    #expect(try stamp(open(image, FileAnchor(place))) == 20)
  }

  @Test func aCopyOfWhatWasGivenUp() throws {
    let (older, newer) = (disk(image.bytes), image)
    try use(newer, FileAnchor(place), 2, commits: 5)
    try accept(older, FileAnchor(place)).close()
    try use(newer, nil, 3, commits: 100)
    #expect(refusal(disk(newer.bytes), FileAnchor(disk(place.bytes)))?.code == .rolledBack)
    #expect(refusal(disk(older.bytes), FileAnchor(disk(place.bytes))) == nil)
    // Not even one that gets as far, by an anchor of its own.
    let other = newAnchorDisk()
    for _ in 0..<2 { try accept(newer, FileAnchor(other)).close() }
    expectFork(newer, "accepted elsewhere")
  }

  // MARK: What is no fork

  /// The headers are written, and then the anchor can't be, or power goes: over and over.
  @Test func aCrashLoopBeforeTheAnchorIsAdvanced() throws {
    for i in 1...200 {
      // The first shows that it can be written.
      place.inject(.fails(errno: 5), at: .write(place.writes + 2))
      #expect(refusal(image, FileAnchor(place))?.code == .anchor(.device(.inputOutput)), "\(i)")
    }
    let volume = try open(image, FileAnchor(place))
    #expect(try stamp(volume) == 1)
    #expect(volume.opening.anchor?.verdict == .ahead)
  }

  @Test func aCrashLoopAfterTheAnchorIsAdvanced() throws {
    for i in 1...200 {
      let volume = try open(image, FileAnchor(place))
      if i % 10 == 0 { try commit(volume, UInt8(i)) }
    }
    #expect(try stamp(open(image, FileAnchor(place))) == 200)
  }

  @Test func anAnchorThatCannotBeWritten() throws {
    let before = image.bytes
    for errno in [28, 5] as [Int32] {
      for _ in 1...100 {
        place.inject(.fails(errno: errno), at: .write(place.writes + 1))
        #expect(refusal(image, FileAnchor(place)) != nil)
      }
    }
    #expect(image.bytes == before)
    #expect(try open(image, FileAnchor(place)).opening.anchor?.verdict == .current)
  }

  @Test(arguments: [1, 63, 64, 100, 200]) func openingsWithoutTheAnchor(count: Int) throws {
    for i in 0..<count {
      let volume = try open(image, nil)
      if i % 3 == 0 { try commit(volume, UInt8(i)) }
      if i % 2 == 0 { try volume.close() }
    }
    #expect(try open(image, FileAnchor(place)).opening.anchor?.verdict == .ahead)
    try use(image, FileAnchor(place), 7)
    #expect(try stamp(open(image, FileAnchor(place))) == 7)
  }

  /// The limit: the header that knows the anchor's record as `anchored` was never written.
  @Test(arguments: [63, 64]) func openingsWithoutTheAnchorAfterACrash(count: Int) throws {
    _ = try open(image, FileAnchor(place))
    for _ in 0..<count { _ = try open(image, nil) }
    let known = refusal(disk(image.bytes), FileAnchor(disk(place.bytes))) == nil
    #expect(known == (count == 63))
    if !known { try accept(image, FileAnchor(place)).close() }
    #expect(refusal(image, FileAnchor(place)) == nil)
  }

  /// Slots change the epoch, too.
  @Test func manyChangesOfSlots() throws {
    let volume = try open(image, FileAnchor(place))
    for i in 0..<70 {
      try volume.addSlot(makeKey(7), name: "s\(i)", created: 1)
      try volume.removeSlot(named: "s\(i)")
    }
    #expect(refusal(disk(image.bytes), FileAnchor(disk(place.bytes))) == nil)
  }

  @Test func backupRestoreAndAcceptance() throws {
    let backup = newDisk()
    _ = try open(SimulatedDisk(copyOf: image.bytes, isWritable: false), nil).copy(to: backup)
    // Of the same moment, it goes on.
    let same = disk(backup.bytes)
    try use(same, FileAnchor(disk(place.bytes)), 2)
    // Of an earlier one, after an acceptance; and so again.
    for round in 2...4 as ClosedRange<UInt8> {
      try use(image, FileAnchor(place), round, commits: 3)
      let restored = disk(backup.bytes)
      #expect(refusal(disk(backup.bytes), FileAnchor(disk(place.bytes)))?.code == .rolledBack)
      try accept(restored, FileAnchor(place)).close()
      try use(restored, FileAnchor(place), 50 + round)
      #expect(try stamp(open(restored, FileAnchor(place))) == 50 + round)
      #expect(refusal(disk(image.bytes), FileAnchor(disk(place.bytes)))?.code == .rolledBack)
      try accept(image, FileAnchor(place)).close()
    }
  }

  /// A clone is a store of its own, with a lineage of its own.
  @Test func aCloneBeginsAnew() throws {
    let (clone, own) = (newDisk(), newAnchorDisk())
    try format(clone, anchor: FileAnchor(own))
    for _ in 0..<70 { try use(clone, FileAnchor(own), 3) }
    try use(image, FileAnchor(place), 2)
    #expect(refusal(disk(clone.bytes), FileAnchor(disk(own.bytes))) == nil)
    #expect(refusal(disk(clone.bytes), FileAnchor(disk(place.bytes)))?.code == .anchor(.notAuthentic))
    #expect(try open(SimulatedDisk(copyOf: clone.bytes, isWritable: false), nil).header.lineage.entries.count == 64)
  }
}
