import BlockIO
import Crypto
import Glibc
import Primitives
import StorageSimulation
import Testing

@testable import SecureVolume

/// A write or sync fails at every place of a workload, in every way: nothing acknowledged is lost, nothing more is
/// written until the image is opened anew, and neither that nor a power cut after it finds a mix.
struct FailedWriteTests {
  static let faults: [Fault] = [
    .fails(errno: EIO), .fails(errno: ENOSPC), .failsAfter(bytes: 100, errno: EIO), .failsLandsLater(errno: EIO),
  ]

  @Test(arguments: PowerCutTests.geometries.prefix(2))
  func aFailureAtEveryOperation(_ geometry: Geometry) throws {
    let plain = SimulatedDisk(size: geometry.imageSize)
    try format(plain, geometry, key: makeKey(1))
    let image = plain.bytes
    let operations = try run(SimulatedDisk(copyOf: image), geometry, fault: nil).operations
    var tried = 0
    for operation in 1...operations {
      for (kind, fault) in Self.faults.enumerated() {
        let disk = SimulatedDisk(copyOf: image)
        disk.inject(fault, at: .operation(operation))
        let outcome = try run(disk, geometry, fault: operation)
        var random = SeededGenerator(seed: UInt64(operation * 10 + kind))
        // Power goes right after the failure; or the image is opened again without one, and then power goes.
        for _ in 0..<3 {
          tried += 1
          try expect(disk.crashed(using: &random), outcome, "cut after the failure of operation \(operation): \(fault)")
        }
        // Two header copies can't serve both a failed sync and a write that lands after the next opening (FORMAT §7).
        let failed = disk.log[operation - 1]
        if kind == 3, failed.kind == .write, failed.offset.value < Format.ringOffset { continue }
        disk.clearFaults()
        var duringRecovery: [SimulatedDisk] = []
        disk.afterOperation = { _ in duringRecovery.append(disk.crashed(using: &random)) }
        let reopened = try open(disk, makeKey(1))
        disk.afterOperation = nil
        tried += duringRecovery.count
        for crashed in duringRecovery {
          try expect(crashed, outcome, "cut while recovering from the failure of operation \(operation): \(fault)")
        }
        let found = try contents(reopened)
        #expect(outcome.allows(found), "opened after the failure of operation \(operation)")
        let settled = Outcome(acknowledged: found, requested: found)
        for _ in 0..<3 {
          tried += 1
          try expect(disk.crashed(using: &random), settled, "cut after recovering from operation \(operation)")
        }
      }
    }
    print(
      "failed writes: \(geometry.blockSize): \(operations) operations, \(tried) states tried")
  }

  struct Outcome {
    var acknowledged: [UInt64?]
    var requested: [UInt64?]
    var operations = 0
    func allows(_ found: [UInt64?]) -> Bool { found == acknowledged || found == requested }
  }

  /// Twelve commits with a checkpoint between, up to the first failure.
  private func run(_ disk: SimulatedDisk, _ geometry: Geometry, fault: Int?) throws -> Outcome {
    let zeros = [UInt64?](repeating: 0, count: Int(geometry.sectorCount))
    var outcome = Outcome(acknowledged: zeros, requested: zeros)
    do {
      let volume = try open(disk, makeKey(1))
      for step in 1...12 {
        let sector = step * 5 % zeros.count
        outcome.requested[sector] = UInt64(step)
        do {
          try volume.commit(changes(geometry.blockSize, [(sector, UInt64(step))]))
          outcome.acknowledged = outcome.requested
          if step % 5 == 0 { try volume.startCheckpoint() }
          _ = try volume.maintain()
        } catch {
          // From now on nothing is written.
          let before = disk.operations
          #expect(throws: VolumeError(.failedEarlier, store: "", "")) {
            try volume.commit(changes(geometry.blockSize, [(0, 99)]))
          }
          #expect(throws: VolumeError(.failedEarlier, store: "", "")) { try volume.close() }
          #expect(disk.operations == before)
          throw error
        }
      }
      try volume.close()
    } catch  where fault != nil {}
    outcome.operations = disk.operations
    return outcome
  }

  private func expect(_ disk: SimulatedDisk, _ outcome: Outcome, _ what: Comment) throws {
    do {
      let found = try contents(open(disk, makeKey(1)))
      #expect(outcome.allows(found), what)
    } catch { Issue.record(error, what) }
  }
}
