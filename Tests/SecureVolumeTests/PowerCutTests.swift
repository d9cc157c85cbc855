import BlockIO
import Crypto
import Primitives
import StorageSimulation
import Testing

@testable import SecureVolume

/// Power goes after every write and every sync of a workload, and what was not synced lands in many ways. Whatever is
/// left must open by itself, as the last acknowledged state or a later one that was asked for, never a mix.
struct PowerCutTests {
  /// What may be found after a cut: content and which keys open.
  struct State: Equatable {
    var content: Stamps
    var slots: Set<String>
  }

  /// Acknowledged, and asked for since.
  final class Oracle {
    var acknowledged: State
    var requested: State?
    init(_ state: State) { acknowledged = state }
    func allows(_ state: State) -> Bool { state == acknowledged || state == requested }
  }

  static let reorderings = 20

  static let geometries: [Geometry] = [
    Geometry(blockSize: 4096, sectorCount: 12),
    Geometry(blockSize: 16384, sectorCount: 5),
    Geometry(blockSize: 65536, sectorCount: 3),
  ].compactMap { $0 }

  @Test(arguments: geometries)
  func everyCutLeavesTheOldStateOrTheNew(_ geometry: Geometry) throws {
    let count = Int(geometry.sectorCount)
    let disk = SimulatedDisk(size: geometry.imageSize, blockSize: geometry.blockSize)
    try format(disk, geometry, key: makeKey(1), name: "k1")
    let oracle = Oracle(State(content: Stamps(repeating: 0, count: count), slots: ["k1"]))
    var random = SeededGenerator(seed: 42 + geometry.sectorCount)
    var tried = 0
    var failures: [String] = []
    disk.afterOperation = { operation in
      guard failures.isEmpty else { return }
      for round in 0..<(geometry.blockSize == 65536 ? 6 : Self.reorderings) {
        let crashed = disk.crashed(using: &random)
        tried += 1
        if let failure = Self.verify(crashed, oracle, recoverAlso: round == 0, &random, &tried) {
          failures.append("operation \(operation), round \(round): \(failure)")
          return
        }
      }
    }
    let volume = try open(disk, makeKey(1))
    try Self.work(volume, geometry, oracle, failures: { failures })
    disk.afterOperation = nil
    #expect(failures == [])
    print(
      "power cuts: \(geometry.blockSize): \(tried) states tried, \(disk.operations) operations")
  }

  /// 70 commits, checkpoints in steps between them, two slots added and one removed, a scrub, a clean close.
  private static func work(
    _ volume: SecureVolume, _ geometry: Geometry, _ oracle: Oracle, failures: () -> [String]
  ) throws {
    var random = SeededGenerator(seed: 7)
    for step in 1...70 where failures().isEmpty {
      var next = oracle.acknowledged
      var updates: [(Int, UInt64)] = []
      for sector in (0..<next.content.count).shuffled(using: &random).prefix(Int.random(in: 1...3, using: &random)) {
        next.content[sector] = UInt64(step * 100 + sector + 1)
        updates.append((sector, next.content[sector]))
      }
      oracle.requested = next
      try volume.commit(changes(geometry.blockSize, updates))
      oracle.acknowledged = next
      oracle.requested = nil
      // A checkpoint now and then, with commits between its steps.
      if step % 12 == 0 { try volume.startCheckpoint() }
      if volume.checkpoint != nil, step % 2 == 0 { _ = try volume.maintain() }
      if step % 23 == 0 {
        next.slots.insert("k\(step)")
        oracle.requested = next
        try volume.addSlot(makeKey(UInt8(step)), name: "k\(step)", created: 1)
        oracle.acknowledged = next
      }
      if step == 60 {
        next.slots.remove("k23")
        oracle.requested = next
        try volume.removeSlot(named: "k23")
        oracle.acknowledged = next
      }
      if step == 65 { try volume.scrub() }
    }
    try volume.close()
  }

  /// What is wrong with a disk after a cut, if anything. With `recoverAlso`, power goes again at every operation of the
  /// recovery.
  private static func verify(
    _ disk: SimulatedDisk, _ oracle: Oracle, recoverAlso: Bool, _ random: inout SeededGenerator, _ tried: inout Int
  ) -> String? {
    var second: [SimulatedDisk] = []
    if recoverAlso {
      var inner = SeededGenerator(seed: UInt64.random(in: 0...UInt64.max, using: &random))
      disk.afterOperation = { _ in second.append(disk.crashed(using: &inner)) }
    }
    if let failure = state(disk, oracle) { return failure }
    disk.afterOperation = nil
    for (operation, disk) in second.enumerated() {
      tried += 1
      if let failure = state(disk, oracle) { return "cut again in recovery at \(operation): \(failure)" }
    }
    return nil
  }

  private static func state(_ disk: SimulatedDisk, _ oracle: Oracle) -> String? {
    do {
      let volume = try open(disk, makeKey(1))
      let found = State(content: try contents(volume).map { $0 ?? UInt64.max }, slots: Set(volume.slots.map(\.name)))
      guard oracle.allows(found) else {
        return "found \(found), acknowledged \(oracle.acknowledged), requested \(String(describing: oracle.requested))"
      }
      return nil
    } catch { return "\(error)" }
  }

  /// Cutting a format short leaves no image, or the whole new one; never an empty store, never the old one's remains.
  @Test func formattingIsAllOrNothing() throws {
    let geometry = Self.geometries[0]
    let content = (0..<12).map { UInt64($0 + 1) }
    for overOld in [false, true] {
      let disk = SimulatedDisk(size: geometry.imageSize)
      if overOld { try format(disk, geometry, key: makeKey(9)) }
      var random = SeededGenerator(seed: 3)
      var outcomes: [String: Int] = [:]
      disk.afterOperation = { _ in
        for _ in 0..<Self.reorderings {
          let outcome = Self.formatOutcome(disk.crashed(using: &random), content, overOld: overOld)
          outcomes[outcome, default: 0] += 1
        }
      }
      try format(disk, geometry, key: makeKey(1), content: content)
      disk.afterOperation = nil
      print("power cuts in format (over an old store: \(overOld)): \(outcomes)")
      #expect(Set(outcomes.keys).subtracting(["no image", "new", "old", "refused"]).isEmpty)
      #expect(outcomes["new", default: 0] > 0 && outcomes["no image", default: 0] > 0)
    }
  }

  private static func formatOutcome(_ disk: SimulatedDisk, _ content: Stamps, overOld: Bool) -> String {
    do {
      let volume = try open(disk, makeKey(1))
      return try contents(volume) == content ? "new" : "mixed"
    } catch  where error.code == .notAnImage {
      return "no image"
    } catch  where error.code == .notAuthentic(.header) || !overOld && error.code == .wrongKey {
      // Header A itself was torn.
      return "refused"
    } catch  where overOld && error.code == .wrongKey {
      // Copy A's zeros had not landed, or not all of them: the old store is whole, or refused.
      do {
        return try contents(open(disk, makeKey(9))) == Stamps(repeating: 0, count: 12) ? "old" : "old and mixed"
      } catch  where error.code == .notAuthentic(.header) || error.code == .wrongKey {
        return "refused"
      } catch { return "\(error)" }
    } catch { return "\(error)" }
  }
}
