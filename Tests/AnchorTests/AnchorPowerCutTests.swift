import Anchors
import BlockIO
import Crypto
import Primitives
import StorageSimulation
import Testing

@testable import SecureVolume

/// Image and anchor lie on disks of their own, and power goes at every write and every sync of either. What is left
/// must open, with no less than was acknowledged; and every whole image from before the anchor's newest record must
/// not.
struct AnchorPowerCutTests {
  private static let reorderings = 12

  private final class Oracle {
    /// What sector 0 may hold.
    var acknowledged: UInt8 = 0
    var requested: UInt8 = 0
    var failures: [String] = []
    var tried = 0
  }

  @Test func everyCutOpensWithItsAnchor() throws {
    let (image, place) = (newDisk(), newAnchorDisk())
    try format(image, anchor: FileAnchor(place))
    let oracle = Self.watch(image, place, seed: 5)
    for opening in 0..<3 {
      let volume = try open(image, FileAnchor(place))
      volume.commitsPerAnchor = 3
      for step in 1...12 where oracle.failures.isEmpty {
        oracle.requested = UInt8(opening * 20 + step)
        try commit(volume, oracle.requested)
        oracle.acknowledged = oracle.requested
        _ = try volume.maintain()
        if step == 6 { try volume.addSlot(makeKey(UInt8(opening + 40)), name: "s\(opening)", created: 1) }
        if step == 9 { try volume.removeSlot(named: "s\(opening)") }
      }
      try volume.close()
    }
    #expect(oracle.failures == [])
    print(
      "power cuts: image and anchor: \(oracle.tried) states tried, \(image.operations + place.operations) operations")
  }

  /// From now on power goes after every operation of either.
  private static func watch(_ image: SimulatedDisk, _ place: SimulatedDisk, seed: UInt64) -> Oracle {
    let oracle = Oracle()
    var random = SeededGenerator(seed: seed)
    let look = { [unowned image, unowned place] (_: Int) in
      guard oracle.failures.isEmpty else { return }
      for round in 0..<Self.reorderings {
        let (cutImage, cutPlace) = (image.crashed(using: &random), place.crashed(using: &random))
        Self.verify(cutImage, cutPlace, oracle, recoverAlso: round == 0, &random)
      }
    }
    image.afterOperation = look
    place.afterOperation = look
    return oracle
  }

  /// What might look like a fork: crash loops before and after the anchor is advanced, an anchor that fails, openings
  /// without it, scrubs, many changes of slots.
  @Test(arguments: [4096, 65536]) func everyCutOfWhatIsNoFork(unit: Int) throws {
    let image = newDisk()
    let place = SimulatedDisk(size: FileAnchor.size, blockSize: unit, name: "anchor")
    try format(image, anchor: FileAnchor(place))
    let oracle = Self.watch(image, place, seed: UInt64(unit))
    func put(_ volume: SecureVolume) throws {
      oracle.requested &+= 1
      try commit(volume, oracle.requested)
      oracle.acknowledged = oracle.requested
    }
    for round in 0..<3 {
      for _ in 0..<4 { try put(open(image, FileAnchor(place))) }
      for _ in 0..<2 {
        // The first write shows that it can be written, the second tells of the opening.
        for call in [1, 2] {
          place.inject(.fails(errno: 28), at: .write(place.writes + call))
          #expect(refusal(image, FileAnchor(place))?.code == .anchor(.device(.noSpace)))
        }
        place.inject(.fails(errno: 5), at: .sync(place.syncs + 2))
        #expect(refusal(image, FileAnchor(place)) != nil)
      }
      for i in 0..<4 {
        let volume = try open(image, nil)
        try put(volume)
        if i % 2 == 0 { try volume.close() }
      }
      let volume = try open(image, FileAnchor(place))
      for i in 0..<3 { try volume.addSlot(makeKey(9), name: "s\(round)-\(i)", created: 1) }
      try put(volume)
      try volume.scrub()
      try put(volume)
      for i in 0..<3 { try volume.removeSlot(named: "s\(round)-\(i)") }
      try volume.close()
    }
    #expect(oracle.failures == [])
    print("power cuts: no forks, units of \(unit): \(oracle.tried) states tried")
  }

  private static func verify(
    _ image: SimulatedDisk, _ place: SimulatedDisk, _ oracle: Oracle, recoverAlso: Bool,
    _ random: inout SeededGenerator
  ) {
    oracle.tried += 1
    var second: [(SimulatedDisk, SimulatedDisk)] = []
    if recoverAlso {
      var inner = SeededGenerator(seed: UInt64.random(in: 0...UInt64.max, using: &random))
      let look = { (_: Int) in second.append((image.crashed(using: &inner), place.crashed(using: &inner))) }
      image.afterOperation = look
      place.afterOperation = look
    }
    opens(image, place, oracle, "at operations \(image.operations), \(place.operations)")
    image.afterOperation = nil
    place.afterOperation = nil
    for (image, place) in second {
      oracle.tried += 1
      opens(image, place, oracle, "cut again in recovery")
    }
  }

  private static func opens(_ image: SimulatedDisk, _ place: SimulatedDisk, _ oracle: Oracle, _ what: String) {
    do {
      let found = try stamp(open(image, FileAnchor(place)))
      guard found != oracle.acknowledged, found != oracle.requested else { return }
      oracle.failures.append("\(what): found \(found), acknowledged \(oracle.acknowledged)")
    } catch { oracle.failures.append("\(what): \(error)") }
  }

  /// Every state of the image that an earlier power cut or copy could have kept, against the anchor as it is at the end
  /// of each opening: what is older than the anchor's record must be refused, whole images and mixtures with older
  /// headers alike.
  @Test func everyEarlierImageIsRefused() throws {
    let (image, place) = (newDisk(), newAnchorDisk())
    try format(image, anchor: FileAnchor(place))
    var earlier: [(header: UInt64, generation: UInt64, bytes: [UInt8])] = []
    var refused = 0
    for opening in 0..<3 {
      let volume = try open(image, FileAnchor(place))
      volume.commitsPerAnchor = 4
      for step in 1...10 {
        image.afterOperation = { [unowned volume] _ in
          earlier.append((volume.header.sequence, volume.generation.value, image.bytes))
        }
        try commit(volume, UInt8(opening * 20 + step))
        while try volume.maintain() {}
        image.afterOperation = nil
      }
      if opening == 1 { try volume.close() }
      let anchored = try #require(volume.anchoredGeneration).value
      for state in earlier where state.generation < anchored {
        let error = refusal(disk(state.bytes), FileAnchor(disk(place.bytes)))
        #expect(error?.status == .rolledBack, "generation \(state.generation), anchored \(anchored)")
        refused += 1
      }
    }
    #expect(refused > 100)
  }

  // MARK: When the anchor fails

  /// A failed advance doesn't stop the store at once; twice the interval without the anchor does. Nothing acknowledged
  /// is lost, and the next opening goes on.
  @Test func aFailingAnchorStopsCommitsAtTheBound() throws {
    let (image, place) = (newDisk(), newAnchorDisk())
    try format(image, anchor: FileAnchor(place))
    let volume = try open(image, FileAnchor(place))
    volume.commitsPerAnchor = 8
    for n in place.writes + 1...place.writes + 1000 { place.inject(.fails(errno: 5), at: .write(n)) }
    var committed: UInt64 = 0
    var failure: VolumeError?
    while failure == nil, committed < 100 {
      do {
        try commit(volume, UInt8(committed + 1))
        committed += 1
        while try volume.maintain() {}
      } catch { failure = error }
    }
    #expect(failure?.code == .anchor(.device(.inputOutput)) && committed == 16)
    #expect(volume.anchorFailure != nil)
    // It closes, and says that the anchor isn't up to date.
    #expect(throws: VolumeError(.anchor(.device(.inputOutput)), store: "", "")) { try volume.close() }
    let again = try open(disk(image.bytes), FileAnchor(disk(place.bytes)))
    #expect(try stamp(again) == UInt8(committed))
    #expect(again.opening.wasClosedCleanly && again.opening.anchor?.verdict == .ahead)
  }

  @Test func aFailureThatPassesIsForgotten() throws {
    let (image, place) = (newDisk(), newAnchorDisk())
    try format(image, anchor: FileAnchor(place))
    let volume = try open(image, FileAnchor(place))
    volume.commitsPerAnchor = 8
    place.inject(.fails(errno: 5), at: .sync(place.syncs + 1))
    for i in 1...40 {
      try commit(volume, UInt8(i))
      while try volume.maintain() {}
    }
    #expect(volume.anchorFailure == nil)
    try volume.close()
    #expect(try stamp(open(image, FileAnchor(place))) == 40)
  }

  /// An opening whose anchor can't be written fails before anything is served, and changes nothing that matters.
  @Test func anOpeningWithoutItsAnchorFails() throws {
    let (image, place) = (newDisk(), newAnchorDisk())
    try format(image, anchor: FileAnchor(place))
    let volume = try open(image, FileAnchor(place))
    try commit(volume, 5)
    try volume.close()
    place.inject(.fails(errno: 28), at: .write(place.writes + 1))
    #expect(refusal(image, FileAnchor(place))?.code == .anchor(.device(.noSpace)))
    #expect(try stamp(open(image, FileAnchor(place))) == 5)
  }
}
