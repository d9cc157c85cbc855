// A store and its anchor: what is the newest opens after every crash, and what is older, or went another way, doesn't.
import Anchors
import BlobStore
import BlockIO
import Primitives
import SecureVolume
import StorageSimulation

/// An image and the file that remembers how far it had come, which lose power together.
private struct AnchoredImage {
  var disk: SimulatedDisk
  var anchor = SimulatedDisk(size: FileAnchor.size, blockSize: 65536, name: "simulated anchor")
  /// What is acknowledged.
  var state: StoreState

  mutating func cutPower(_ verifier: inout Verifier) {
    disk = verifier.crash(disk)
    anchor = verifier.crash(anchor)
  }
}

extension Checker {
  /// A life with an anchor, from its first on.
  func useWithAnchor() throws {
    guard !hasLied.ever, plan.count == 1, !acknowledged.entries.isEmpty else { return }
    let target = try target(mayBeCrashed: true)
    guard !target.state.entries.isEmpty else { return }
    var image = AnchoredImage(disk: target.disk, state: target.state)
    try accept(&image)
    for _ in 0..<3 + random.below(4) where violation == nil {
      switch random.below(6) {
      case 0: try use(&image)
      case 1: try crashInOpenings(&image)
      case 2: try useUnwritableAnchor(&image)
      case 3: try refuseBackup(&image)
      default: try refuseCopy(&image)
      }
    }
  }

  // MARK: What must open

  /// Opens the newest image, which its anchor must take.
  private func open(_ image: AnchoredImage) throws -> (SecureVolume, BlobStore) {
    verifier.tally.countState(unit: image.disk.blockSize)
    do {
      let (volume, _) = try Verifier.open(image.disk, image.state.keys, anchor: .following(FileAnchor(image.anchor)))
      let store = try BlobStore(volume)
      try judge(volume, image)
      return (volume, store)
    } catch let error as any StatusError {
      guard error.status == .rolledBack else { throw error }
      throw Violation(.unopenable, "the newest image, and its anchor refuses it: \(error)")
    }
  }

  private func judge(_ volume: SecureVolume, _ image: AnchoredImage) throws {
    let found = try Verifier.read(volume, checksAll: false, false)
    if case .violation(let violation) = verifier.judge(found, Expectation(states: [image.state], past: history)) {
      throw violation.at("with an anchor")
    }
  }

  private func accept(_ image: inout AnchoredImage) throws {
    tally.count(fault: "an image accepted")
    let anchor = FileAnchor(image.anchor)
    let (volume, _) = try Verifier.open(image.disk, image.state.keys, anchor: .accepting(anchor))
    try judge(volume, image)
    try end(volume, &image)
  }

  private func end(_ volume: SecureVolume, _ image: inout AnchoredImage) throws {
    switch random.below(3) {
    case 0: try volume.close()
    case 1: break
    default: image.cutPower(&verifier)
    }
  }

  /// An opening with some commits and what else brings the anchor forward.
  private func use(_ image: inout AnchoredImage) throws {
    tally.count(fault: "a store used with its anchor")
    let (volume, store) = try open(image)
    volume.commitsPerAnchor = UInt64(1 + random.below(8))
    for _ in 0..<random.below(6) {
      image.state = try replace(in: store, after: image.state)
      if random.chance(20) { try volume.scrub() }
      if random.chance(20) { volume.requestAnchor() }
      if random.chance(20) { while try volume.maintain() {} }
    }
    try end(volume, &image)
  }

  /// Power goes again and again while it is opened.
  private func crashInOpenings(_ image: inout AnchoredImage) throws {
    tally.count(fault: "power cuts in openings with an anchor")
    for _ in 0..<random.pick([1, 3, 10]) where violation == nil {
      let cut = 1 + random.below(10)
      if random.chance(30) {
        image.anchor.cutPower(afterOperation: image.anchor.operations + 1 + random.below(4))
      } else {
        image.disk.cutPower(afterOperation: image.disk.operations + cut)
      }
      do { _ = try open(image) } catch let error as any StatusError {
        guard error.status == .inputOutput else { throw Violation(.misbehaviour, "power was cut: \(error)") }
      }
      image.cutPower(&verifier)
    }
    try use(&image)
  }

  /// Openings fail as long as the anchor does, however often; then all is as it was.
  private func useUnwritableAnchor(_ image: inout AnchoredImage) throws {
    tally.count(fault: "openings whose anchor can't be written")
    for _ in 0..<random.pick([1, 3, 3, 10, 70]) {
      let number = image.anchor.operations + 1 + random.below(3)
      image.anchor.inject(.fails(errno: 5), at: .operation(number))
      do { _ = try open(image) } catch let error as any StatusError {
        guard error.status == .inputOutput else { throw Violation(.misbehaviour, "an anchor failed: \(error)") }
      }
      image.anchor.clearFaults()
      if random.chance(20) { image.cutPower(&verifier) }
    }
    try use(&image)
  }

  // MARK: What must be refused

  /// A copy of the image from before the last opening, left as it was or used elsewhere, however far.
  private func refuseCopy(_ image: inout AnchoredImage) throws {
    let copy = image.disk.copy()
    let states = image.state
    try use(&image)
    var name = "an older copy"
    if random.chance(70) {
      name = "a copy that was used elsewhere"
      try useWithoutAnchor(copy, states, openings: random.pick([1, 1, 2, 3, 70]))
    }
    try expectRefusal(copy, image, states.keys, name)
  }

  private func useWithoutAnchor(_ disk: SimulatedDisk, _ state: StoreState, openings: Int) throws {
    var state = state
    for _ in 0..<openings {
      let (volume, _) = try Verifier.open(disk, state.keys)
      let store = try BlobStore(volume)
      for _ in 0..<random.below(openings > 10 ? 2 : 12) { state = try replace(in: store, after: state) }
      if random.chance(50) { try volume.close() }
    }
  }

  private func expectRefusal(_ copy: SimulatedDisk, _ image: AnchoredImage, _ keys: [Int], _ name: String) throws {
    tally.count(fault: "\(name), and the anchor")
    for isWritable in [false, true] {
      verifier.tally.countState(unit: copy.blockSize)
      let (disk, anchor) = (copy.copy(isWritable: isWritable), image.anchor.copy())
      do {
        _ = try Verifier.open(disk, keys, anchor: .following(FileAnchor(anchor)))
        throw Violation(.unnoticed, "\(name): its anchor takes it")
      } catch let error as VolumeError {
        guard error.status == .rolledBack else { throw Violation(.misbehaviour, "\(name): \(error)") }
        tally.count(refusal: "\(name), \(error.code == .forked ? "forked" : "rolled back")")
      }
      guard disk.operations == 0, anchor.writes == 0 else {
        throw Violation(.misbehaviour, "\(name): refused, and written to")
      }
    }
  }

  /// A backup is refused, too, until somebody accepts it; then what was given up is refused, whatever became of it.
  private func refuseBackup(_ image: inout AnchoredImage) throws {
    let backup = SimulatedDisk(size: image.disk.size, blockSize: image.disk.blockSize)
    let before = image.state
    do {
      let (volume, _) = try Verifier.open(image.disk.copy(isWritable: false), before.keys)
      _ = try volume.copy(to: backup)
    }
    try use(&image)
    try expectRefusal(backup, image, before.keys, "a backup")
    let givenUp = (image.disk.copy(), image.state)
    image.disk = backup
    image.state = before
    try accept(&image)
    if random.chance(50) { try useWithoutAnchor(givenUp.0, givenUp.1, openings: random.pick([1, 2])) }
    try expectRefusal(givenUp.0, image, givenUp.1.keys, "an image that was given up")
    try use(&image)
  }
}
