// The image in other places than its own: on a device with larger blocks, as a sparse file on a full disk, open on two
// hosts at once. Each is tried on a copy.
import BlobStore
import BlockIO
import Primitives
import SecureVolume
import StorageSimulation

extension Checker {
  func useElsewhere() throws {
    guard !hasLied.ever, plan.count == 1, !acknowledged.entries.isEmpty else { return }
    let target = try target(mayBeCrashed: true)
    guard !target.state.entries.isEmpty else { return }
    switch random.below(4) {
    case 0: try useOnLargerBlocks(target)
    case 1: try useSparse(target)
    case 2: try useSavedHeader(target)
    default: try useOnTwoHosts(target)
    }
  }

  // MARK: Larger blocks

  /// It can be read there, and isn't written.
  private func useOnLargerBlocks(_ target: Target) throws {
    let larger = [8192, 16384, 32768, 65536].filter { $0 > geometry.blockSize }
    guard let unit = larger.randomElement(using: &random) else { return }
    tally.count(fault: "a device with larger blocks")
    let bytes = target.disk.bytes
    let expected = Expectation(states: [target.state], past: history)
    let reading = SimulatedDisk(copyOf: bytes, blockSize: unit, isWritable: false)
    if case .violation(let violation) = verifier.verify(reading, expected) { throw violation.at("on larger blocks") }
    let disk = SimulatedDisk(copyOf: bytes, blockSize: unit)
    do {
      let (volume, _) = try Verifier.open(disk, target.state.keys)
      try tear(disk, volume, target.state)
      throw Violation(.misbehaviour, "an image is written on a device whose blocks are larger than its own")
    } catch let error as any StatusError {
      guard error.status == .refused, disk.operations == 0 else {
        throw Violation(.misbehaviour, "on larger blocks, after \(disk.operations) operations: \(error)")
      }
      tally.count(refusal: "on larger blocks, \(error.status)")
    }
  }

  /// Shows what comes of writing there.
  private func tear(_ disk: SimulatedDisk, _ volume: SecureVolume, _ state: StoreState) throws {
    let store = try BlobStore(volume)
    var expected = Expectation(states: [state])
    disk.afterOperation = { [unowned self, unowned disk] _ in
      // As whoever copies it to a device with small blocks finds it.
      let crashed = SimulatedDisk(copyOf: verifier.crash(disk).bytes)
      if case .violation(let violation) = verifier.verify(crashed, expected) {
        report(violation.at("cut on a device with larger blocks"))
      }
    }
    defer { disk.afterOperation = nil }
    for _ in 0..<20 where violation == nil {
      var next = state
      let index = random.below(state.entries.count)
      next.replace(index, content: random.bytes(min(300, state.entries[index].capacity)))
      expected.states.append(next)
      let content = next.entries[index].content
      try store.stageReplace(EntryName(next.entries[index].name), content.span)
      try store.commit()
      expected = Expectation(states: [next], past: [state])
    }
    if let violation { throw violation }
  }

  // MARK: Space

  /// Opening for writing gets all the space that the image needs, or refuses and writes nothing.
  private func useSparse(_ target: Target) throws {
    tally.count(fault: "a sparse copy on a full disk")
    let disk = target.disk
    let scarce = ScarceDisk(disk)
    let holes = scarce.holes.count
    scarce.free = random.pick([0, random.below(holes + 1), max(0, holes - 1), holes])
    let isEnough = scarce.free >= holes
    let volume: SecureVolume
    do { (volume, _) = try Verifier.open(scarce, target.state.keys) } catch let error as any StatusError {
      guard error.status == .noSpace, !isEnough, disk.operations == 0 else {
        throw Violation(
          .misbehaviour, "\(holes) holes, opened after \(disk.operations) operations of the disk: \(error)")
      }
      tally.count(refusal: "a sparse copy, \(error.status)")
      let expected = Expectation(states: [target.state], past: history)
      if case .violation(let violation) = verifier.verify(disk, expected) { throw violation.at("a sparse copy") }
      return
    }
    do {
      let store = try BlobStore(volume)
      var state = target.state
      for _ in 0..<random.pick([1, 4, 40]) { state = try replace(in: store, after: state) }
      try volume.close()
    } catch {
      throw Violation(.misbehaviour, "\(holes) holes, and open all the same: \(error)")
    }
  }

  // MARK: Two hosts

  /// The one that was there first ends at its next checkpoint, and writes nothing after it noticed.
  private func useOnTwoHosts(_ target: Target) throws {
    tally.count(fault: "another host writes")
    let disk = target.disk
    let (first, _) = try Verifier.open(disk, target.state.keys)
    let store = try BlobStore(first)
    var state = target.state
    for _ in 0..<random.below(4) { state = try replace(in: store, after: state) }
    let (second, _) = try Verifier.open(disk, target.state.keys)
    let other = try BlobStore(second)
    for _ in 0..<random.below(4) { state = try replace(in: other, after: state) }
    if random.chance(50) { try second.close() }
    let hasMeddled = random.chance(30)
    if hasMeddled { _ = try? replace(in: store, after: state) }
    let operations = disk.operations
    do {
      switch random.below(3) {
      case 0: try first.scrub()
      case 1: try first.close()
      default: try first.addSlot(makeKey(4), name: "another", created: 3)
      }
      throw Violation(.misbehaviour, "another host wrote, and the checkpoint went on")
    } catch let error as any StatusError {
      guard error.status == .inUse else { throw Violation(.misbehaviour, "another host wrote: \(error)") }
    }
    if (try? replace(in: store, after: state)) != nil {
      throw Violation(.misbehaviour, "committed after another host was noticed")
    }
    guard disk.operations == operations else {
      throw Violation(.misbehaviour, "written to after another host was noticed:\n\(disk.logText(last: 5))")
    }
    guard !hasMeddled else { return }
    let expected = Expectation(states: [state], past: history)
    if case .violation(let violation) = verifier.verify(verifier.crash(disk), expected) {
      throw violation.at("another host's store")
    }
  }
}

/// A sparse file on a disk that is nearly full: pages of zeros aren't there, and each takes one that is free.
private final class ScarceDisk: BlockDevice {
  private let disk: SimulatedDisk
  /// Pages of 4096 bytes.
  private(set) var holes: Set<Int> = []
  var free = 0

  init(_ disk: SimulatedDisk) {
    self.disk = disk
    for page in 0..<Int(disk.size.value) / 4096 {
      if disk.bytes(page * 4096..<(page + 1) * 4096).allSatisfy({ $0 == 0 }) { holes.insert(page) }
    }
  }

  var name: String { disk.name }
  var size: ByteCount { disk.size }
  var blockSize: Int { disk.blockSize }
  var isWritable: Bool { true }

  func read(at offset: ByteOffset, into destination: consuming MutableSpan<UInt8>) throws(BlockError) {
    try disk.read(at: offset, into: destination)
  }

  func write(_ source: Span<UInt8>, at offset: ByteOffset) throws(BlockError) {
    let start = Int(offset.value)
    let missing = holes.intersection(start / 4096..<(start + source.count + 4095) / 4096)
    guard missing.count <= free else { throw full }
    free -= missing.count
    holes.subtract(missing)
    try disk.write(source, at: offset)
  }

  func sync() throws(BlockError) { try disk.sync() }

  func allocate(_ length: ByteCount) throws(BlockError) {
    guard holes.count <= free else { throw full }
    free -= holes.count
    holes = []
  }

  private var full: BlockError { BlockError(.noSpace, device: name, "no space left") }
}
