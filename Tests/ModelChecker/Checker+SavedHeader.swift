// Both headers lost, and one put back that was saved: the image holds what it held, or is refused.
import BlobStore
import BlockIO
import Primitives
import SecureVolume
import StorageSimulation

extension Checker {
  /// A header saved in one opening, commits and openings after it, then both copies damaged.
  func useSavedHeader(_ target: Target) throws {
    tally.count(fault: "both headers lost, and a saved one put back")
    let disk = target.disk
    var state = target.state
    var saved: [UInt8] = []
    do {
      let (volume, _) = try Verifier.open(disk, state.keys)
      let store = try BlobStore(volume)
      for _ in 0..<random.below(3) { state = try replace(in: store, after: state) }
      let header = try volume.savedHeader()
      saved = header.span.array
      for _ in 0..<random.below(3) { state = try replace(in: store, after: state) }
      if random.chance(30) { try volume.close() }
    }
    if random.chance(30) {
      let (volume, _) = try Verifier.open(disk, state.keys)
      let store = try BlobStore(volume)
      for _ in 0..<random.below(3) { state = try replace(in: store, after: state) }
    }
    for offset in ImageView.copyOffsets {
      disk.overwrite(ByteOffset(offset + 4096 * random.below(9)), with: random.bytes(4096))
    }
    guard try putBack(saved, disk, state) else { return }
    if case .violation(let violation) = verifier.verify(disk, Expectation(states: [state], past: history)) {
      throw violation.at("a saved header put back")
    }
  }

  /// Whether it was put back. Power cuts meanwhile leave what opens, or what it can be put back on again.
  private func putBack(_ saved: [UInt8], _ disk: SimulatedDisk, _ state: StoreState) throws -> Bool {
    let expected = Expectation(
      kind: .adversary, states: [state], past: history + [state], refusals: Expectation.damage)
    let operations = disk.operations
    var crashed: [SimulatedDisk] = []
    disk.afterOperation = { [unowned self, unowned disk] _ in
      if random.chance(20) { crashed.append(verifier.crash(disk)) }
    }
    defer { disk.afterOperation = nil }
    do { try putBack(saved, disk, state.keys) } catch let error as any StatusError {
      guard error.status == .notAuthentic, disk.operations == operations else { throw error }
      tally.count(refusal: "a saved header, \(error.status)")
      return false
    }
    disk.afterOperation = nil
    for copy in crashed {
      switch verifier.verify(copy.copy(), expected) {
      case .violation(let violation): throw violation.at("cut while a saved header was put back")
      case .recovered: break
      case .refused:
        try putBack(saved, copy, state.keys)
        if case .violation(let violation) = verifier.verify(copy, Expectation(states: [state], past: history)) {
          throw violation.at("cut while a saved header was put back, and put back again")
        }
      }
    }
    return true
  }

  /// As `vnvram header restore` does it: all of it must verify before anything is written.
  private func putBack(_ saved: [UInt8], _ disk: SimulatedDisk, _ keys: [Int]) throws {
    let reading = HeaderOverlay(disk.copy(isWritable: false), saved: Self.buffer(saved))
    let (volume, _) = try Verifier.open(reading, keys)
    _ = try BlobStore(volume)
    try volume.requireNothingLater()
    let (opened, _) = try Verifier.open(reading.over(disk), keys)
    try opened.close()
  }

  private static func buffer(_ bytes: [UInt8]) -> ByteBuffer {
    var buffer = ByteBuffer(count: bytes.count)
    buffer.copy(from: bytes.span)
    return buffer
  }
}
