import Primitives

/// What is left of unsynced blocks when power goes.
public enum PowerCut: CaseIterable, Sendable {
  /// Nothing landed.
  case nothing
  /// Everything landed.
  case everything
  /// Only the last write landed, and nothing before it: disks reorder.
  case onlyLast
  /// Everything landed but the last write.
  case allButLast
  /// Each block is old or one of its new versions.
  case oldOrNew
  /// Each block is old, new or garbage.
  case anything
  /// Every block is garbage.
  case garbage
}

extension SimulatedDisk {
  /// The disk as the next start of the machine finds it: one legal outcome of a cut now, chosen by `generator`. Has
  /// power, no faults, nothing pending, and shares the blocks that don't differ.
  public func crashed(using generator: inout some RandomNumberGenerator) -> SimulatedDisk {
    // Extremes one time in four together; the rest goes where the combinations are.
    let kinds: [PowerCut] = [
      .nothing, .everything, .onlyLast, .allButLast, .garbage, .oldOrNew, .oldOrNew, .oldOrNew, .anything, .anything,
      .anything, .anything,
    ]
    return crashed(kinds[Int.random(in: 0..<kinds.count, using: &generator)], using: &generator)
  }

  /// As above, of one kind. `.nothing` and `.everything` take nothing from `generator`.
  public func crashed(_ cut: PowerCut, using generator: inout some RandomNumberGenerator) -> SimulatedDisk {
    var blocks = state.durable
    let last = state.pending.values.lazy.compactMap { $0.versions.last?.operation }.max() ?? 0
    // In order, since a dictionary's own differs from run to run.
    for block in pendingBlocks {
      guard let pending = state.pending[block], let newest = pending.versions.last else { continue }
      let versions = pending.versions
      switch cut {
      case .nothing: break
      case .everything: blocks[block] = newest.bytes
      case .onlyLast: if newest.operation == last { blocks[block] = newest.bytes }
      case .allButLast:
        if let version = versions.last(where: { $0.operation != last }) { blocks[block] = version.bytes }
      case .oldOrNew:
        let choice = Int.random(in: 0...versions.count, using: &generator)
        if choice > 0 { blocks[block] = versions[choice - 1].bytes }
      case .anything:
        switch Int.random(in: 0..<3, using: &generator) {
        case 0: break
        case 1: blocks[block] = versions[Int.random(in: 0..<versions.count, using: &generator)].bytes
        default: blocks[block] = garbage(block, pending, &generator)
        }
      case .garbage: blocks[block] = garbage(block, pending, &generator)
      }
    }
    return SimulatedDisk(
      State(durable: blocks, current: blocks), name: name, isWritable: true)
  }

  /// The bytes of `crashed` with a generator of this seed.
  public func imageAfterPowerCut(seed: UInt64) -> [UInt8] {
    var generator = SeededGenerator(seed: seed)
    return crashed(using: &generator).bytes
  }

  /// The shapes that a block which was being written has been seen in.
  private enum Garbage: CaseIterable {
    case noise, zeros, ones, flippedBit, tornBySector, tornAnywhere, otherBlock
  }

  private func garbage(
    _ block: Int, _ pending: Pending, _ generator: inout some RandomNumberGenerator
  ) -> [UInt8] {
    let versions = pending.versions
    let unit = state.durable.unit
    let old = state.durable[block]
    var bytes = versions[Int.random(in: 0..<versions.count, using: &generator)].bytes
    switch Garbage.allCases[Int.random(in: 0..<Garbage.allCases.count, using: &generator)] {
    case .noise:
      var noise = SeededGenerator(seed: generator.next())
      bytes = noise.bytes(unit)
    case .zeros: bytes = [UInt8](repeating: 0, count: unit)
    case .ones: bytes = [UInt8](repeating: 0xFF, count: unit)
    case .flippedBit:
      let bit = Int.random(in: 0..<unit * 8, using: &generator)
      bytes[bit / 8] ^= 1 << UInt8(bit & 7)
    case .tornBySector:
      for start in stride(from: 0, to: unit, by: 512) {
        let choice = Int.random(in: 0...versions.count, using: &generator)
        let source = choice == 0 ? old : versions[choice - 1].bytes
        bytes.replaceSubrange(start..<start + 512, with: source[start..<start + 512])
      }
    case .tornAnywhere:
      let cut = Int.random(in: 1..<unit, using: &generator)
      bytes.replaceSubrange(cut..<unit, with: old[cut..<unit])
    case .otherBlock:
      bytes = state.durable[Int.random(in: 0..<(state.durable.size + unit - 1) / unit, using: &generator)]
    }
    // Nothing writes to it any more, and some of its pages were written anew and synced: those stay.
    if pending.dirty == 0 {
      for page in 0..<unit / Self.page where pending.lost & 1 << page == 0 {
        let range = page * Self.page..<(page + 1) * Self.page
        bytes.replaceSubrange(range, with: old[range])
      }
    }
    return bytes
  }
}
