import Anchors
import BlockIO
import Crypto
import Primitives
import StorageSimulation
import Testing

@testable import SecureVolume

/// What an anchor notices: older images, older headers, records cut off, forks; and what it accepts.
struct FreshnessTests {
  /// An image and its anchor as they are at some moment, every copy of its own.
  struct Moment {
    let image: [UInt8]
    let anchor: [UInt8]
    init(_ disk: SimulatedDisk, _ anchor: SimulatedDisk) {
      image = disk.bytes
      self.anchor = anchor.bytes
    }
  }

  /// Three openings with commits, each closed cleanly; and the moments at which nothing was open.
  private func history() throws -> (moments: [Moment], uuid: StoreUUID) {
    let (image, place) = (newDisk(), newAnchorDisk())
    let uuid = try format(image, anchor: FileAnchor(place))
    var moments = [Moment(image, place)]
    for round in 1...3 {
      let volume = try open(image, FileAnchor(place))
      for i in 0..<5 { try commit(volume, UInt8(10 * round + i), sector: i % 4) }
      try volume.close()
      moments.append(Moment(image, place))
    }
    return (moments, uuid)
  }

  @Test func olderImagesAreRefused() throws {
    let (moments, _) = try history()
    for (i, older) in moments.enumerated() {
      for (j, newer) in moments.enumerated() {
        // For reading and writing alike, before anything is written.
        for isWritable in [false, true] {
          let image = SimulatedDisk(copyOf: older.image, name: "image", isWritable: isWritable)
          let error = refusal(image, FileAnchor(disk(newer.anchor)))
          #expect(error?.code == (i < j ? .rolledBack : nil), "image \(i), anchor \(j): \(String(describing: error))")
          if let error {
            #expect(error.status == .rolledBack && image.writes == 0)
            #expect(error.description.contains("accept-rollback") && error.description.contains("generation \(5 * j)"))
          }
        }
      }
    }
  }

  /// An image that is newer than its anchor is what a crash between the two leaves: accepted, and said.
  @Test func imagesAheadAreAccepted() throws {
    let (moments, _) = try history()
    let volume = try open(disk(moments[3].image), FileAnchor(disk(moments[1].anchor)))
    #expect(volume.opening.anchor?.verdict == .ahead && volume.opening.anchor?.generation == Generation(5))
    #expect(volume.anchoredGeneration == Generation(15))
    let current = try open(disk(moments[3].image), FileAnchor(disk(moments[3].anchor)))
    #expect(current.opening.anchor?.verdict == .current)
  }

  /// Nothing of the open image but its ring and headers has changed until its first checkpoint; both earlier headers
  /// make it say "closed cleanly" (FORMAT §7). The anchor knows the opening.
  @Test func earlierHeadersOfOneOpening() throws {
    let (image, place) = (newDisk(), newAnchorDisk())
    try format(image, anchor: FileAnchor(place))
    let closed = image.bytes
    let volume = try open(image, FileAnchor(place))
    try commit(volume, 7)
    var bytes = image.bytes
    for offset in Format.copyOffsets.map(Int.init) {
      bytes.replaceSubrange(offset..<offset + Format.headerSize, with: closed[offset..<offset + Format.headerSize])
    }
    // Without an anchor this opens, at the generation before.
    #expect(try open(disk(bytes), nil).generation == Generation(0))
    #expect(refusal(disk(bytes), FileAnchor(disk(place.bytes)))?.code == .rolledBack)
    // With its own headers it opens at what was committed.
    #expect(try open(disk(image.bytes), FileAnchor(disk(place.bytes))).generation == Generation(1))
  }

  /// A power cut spoils a bit of copy A that its slots are wrapped with and doesn't lie in them: copy B's slots open it
  /// all the same.
  @Test func aTornCopyWhoseSlotsAreWhole() throws {
    let image = newDisk()
    try format(image, anchor: nil)
    _ = try open(image, nil)
    for offset in [Format.binding.lowerBound, Format.binding.upperBound - 1, 40, 55] {
      let torn = disk(image.bytes)
      torn.flip(bit: offset * 8 + 2)
      #expect(refusal(torn, ExpectedGeneration(Generation(0))) == nil, "byte \(offset)")
    }
  }

  /// Records that are cut off the end are missed down to what the anchor knows: the bound that FORMAT §12 gives.
  @Test func recordsCutOffBelowTheAnchor() throws {
    let (image, place) = (newDisk(), newAnchorDisk())
    try format(image, anchor: FileAnchor(place))
    let volume = try open(image, FileAnchor(place))
    volume.commitsPerAnchor = 4
    var images: [(generation: UInt64, bytes: [UInt8])] = []
    for i in 1...40 {
      try commit(volume, UInt8(i), sector: i % 4)
      images.append((volume.generation.value, image.bytes))
      while try volume.maintain() {}
      #expect(volume.generation.value - (volume.anchoredGeneration?.value ?? 0) <= 8)
    }
    let anchored = try #require(volume.anchoredGeneration).value
    var refused = 0
    for (generation, bytes) in images {
      let error = refusal(disk(bytes), FileAnchor(disk(place.bytes)))
      if generation < anchored {
        #expect(error?.code == .rolledBack, "generation \(generation), anchored \(anchored)")
        refused += 1
      } else if generation > anchored {
        #expect(error == nil)
      }
    }
    #expect(refused >= 30)
    #expect(refusal(disk(image.bytes), FileAnchor(disk(place.bytes))) == nil)
  }

  /// Without anybody calling `maintain`, too, and where no checkpoint would come for want of room.
  @Test func theBoundHoldsWithoutMaintenance() throws {
    let (image, place) = (newDisk(), newAnchorDisk())
    try format(image, anchor: FileAnchor(place))
    let volume = try open(image, FileAnchor(place))
    volume.commitsPerAnchor = 3
    for i in 1...60 {
      try commit(volume, UInt8(i))
      #expect(volume.generation.value - (volume.anchoredGeneration?.value ?? 0) <= 6)
    }
  }

  /// A changed slot is anchored before the call returns: putting back the headers with a removed slot is noticed.
  @Test func aRemovedSlotStaysRemoved() throws {
    let (image, place) = (newDisk(), newAnchorDisk())
    try format(image, anchor: FileAnchor(place))
    let volume = try open(image, FileAnchor(place))
    try volume.addSlot(makeKey(9), name: "spare", created: 1)
    let before = image.bytes
    try volume.removeSlot(named: "spare")
    #expect(throws: VolumeError(.rolledBack, store: "", "")) {
      try SealedVolume(disk(before)).unlock(with: makeKey(9), anchor: FileAnchor(disk(place.bytes)))
    }
  }

  @Test func forks() throws {
    let (image, place) = (newDisk(), newAnchorDisk())
    try format(image, anchor: FileAnchor(place))
    let (copy, stale) = (disk(image.bytes), place.bytes)
    // One way with the anchor, the other with a copy of it: as many openings and commits.
    for (disk, anchor, stamp) in [(image, place, UInt8(1)), (copy, disk(stale), 2)] {
      let volume = try open(disk, FileAnchor(anchor))
      try commit(volume, stamp)
      try volume.close()
    }
    let error = refusal(copy, FileAnchor(place))
    #expect(error?.code == .forked && error?.status == .rolledBack)
    #expect(error?.description.contains("another way") == true)
    // The same generation with another content, and more openings.
    let longer = disk(copy.bytes)
    try open(longer, nil).close()
    #expect(refusal(longer, FileAnchor(place))?.code == .forked)
    #expect(try open(image, FileAnchor(place)).generation == Generation(1))
  }

  @Test func anotherStoresAnchorIsNoAnchor() throws {
    let (first, second) = (newDisk(), newDisk())
    let (one, two) = (newAnchorDisk(), newAnchorDisk())
    try format(first, anchor: FileAnchor(one))
    try format(second, anchor: FileAnchor(two))
    #expect(refusal(first, FileAnchor(disk(two.bytes)))?.code == .anchor(.notAuthentic))
    #expect(refusal(first, FileAnchor(newAnchorDisk()))?.code == .anchor(.notAuthentic))
    #expect(refusal(first, FileAnchor(disk([1, 2, 3])))?.code == .anchor(.notAuthentic))
    #expect(refusal(first, FileAnchor(one)) == nil)
  }

  /// Every bit of a record counts.
  @Test func everyBitOfARecord() throws {
    let (image, place) = (newDisk(), newAnchorDisk())
    try format(image, anchor: FileAnchor(place))
    let (bytes, anchor) = (image.bytes, place.bytes)
    let used = anchor.indices.filter { anchor[$0] != 0 }
    #expect(used.allSatisfy { $0 < AnchorRecord.size })
    for bit in 0..<AnchorRecord.size * 8 {
      var spoilt = anchor
      spoilt[bit / 8] ^= 1 << UInt8(bit % 8)
      #expect(refusal(disk(bytes), FileAnchor(disk(spoilt)))?.code == .anchor(.notAuthentic), "bit \(bit)")
    }
  }

  // MARK: Accepting

  @Test func acceptingMakesTheOldImageTheNewest() throws {
    let (moments, _) = try history()
    let place = disk(moments[3].anchor)
    let image = disk(moments[1].image)
    #expect(refusal(image, FileAnchor(place))?.code == .rolledBack)
    let volume = try accept(image, FileAnchor(place))
    #expect(try stamp(volume) == 14)
    #expect(volume.generation.value > 15 + 1 << 19)
    try commit(volume, 99)
    try volume.close()
    #expect(try stamp(open(image, FileAnchor(place))) == 99)
    // What was given up is old ever after, though it was ahead.
    for moment in moments {
      #expect(refusal(disk(moment.image), FileAnchor(disk(place.bytes)))?.code == .rolledBack)
    }
  }

  @Test func acceptingWithoutAnAnchorMakesOne() throws {
    let image = newDisk()
    try format(image, anchor: nil)
    let place = newAnchorDisk()
    #expect(refusal(image, FileAnchor(place))?.code == .anchor(.notAuthentic))
    try accept(image, FileAnchor(place)).close()
    #expect(refusal(image, FileAnchor(place)) == nil)
  }

  /// Power goes at every write and sync of accepting: the image always opens without its anchor; with it, it is refused
  /// as before, or accepted.
  @Test func acceptingIsAllOrNothing() throws {
    let (moments, _) = try history()
    let (image, place) = (disk(moments[1].image), disk(moments[3].anchor))
    var random = SeededGenerator(seed: 11)
    var outcomes: [String: Int] = [:]
    let look = { (_: Int) in
      for _ in 0..<8 {
        let (cutImage, cutPlace) = (image.crashed(using: &random), place.crashed(using: &random))
        do {
          #expect(try stamp(open(disk(cutImage.bytes), nil)) == 14)
        } catch { Issue.record("\(error)") }
        let error = refusal(cutImage, FileAnchor(cutPlace))
        outcomes[error.map { "\($0.status)" } ?? "opens", default: 0] += 1
      }
    }
    image.afterOperation = look
    place.afterOperation = look
    try accept(image, FileAnchor(place)).close()
    #expect(Set(outcomes.keys) == ["opens", "rolled-back"])
  }

  // MARK: Expected generations

  @Test func expectedGenerations() throws {
    let (moments, _) = try history()
    for (i, moment) in moments.enumerated() {
      for least in 0...16 as ClosedRange<UInt64> {
        let error = refusal(disk(moment.image), ExpectedGeneration(Generation(least)))
        #expect(error?.code == (least > 5 * UInt64(i) ? .rolledBack : nil))
      }
    }
    // Records cut off an image that was not closed cleanly are noticed, too: it is the generation after replay that
    // counts.
    let image = disk(moments[0].image)
    let volume = try open(image, nil)
    try commit(volume, 1)
    let before = image.bytes
    try commit(volume, 2)
    #expect(refusal(disk(image.bytes), ExpectedGeneration(Generation(2))) == nil)
    #expect(refusal(disk(before), ExpectedGeneration(Generation(2)))?.code == .rolledBack)
    #expect(throws: VolumeError(.anchor(.refused), store: "", "")) {
      try accept(image, ExpectedGeneration(Generation(1)))
    }
  }
}
