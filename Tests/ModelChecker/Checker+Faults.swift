// Faults of the disk, put before a step at random.
import BlockIO
import Glibc
import Primitives
import StorageSimulation

extension Checker {
  /// One of the next operations goes wrong, or one of the next reads.
  func injectFault(before kind: StepKind) {
    let call = Call.operation(disk.operations + 1 + random.below(kind == .fillRing ? 30 : 7))
    if profile.diskLies, kind != .formatAnew, random.chance(60) { return injectLie(call) }
    // Where several requests share a commit, what a failed read leaves of them is not planned for.
    if kind != .serve, kind != .fillRing, random.chance(25) { return injectReadFault() }
    let (name, fault): (String, Fault) = random.pick(weighted: [
      (4, ("EIO", .fails(errno: EIO))), (2, ("ENOSPC", .fails(errno: ENOSPC))),
      (3, ("short transfer, then EIO", .failsAfter(bytes: random.below(4096), errno: EIO))),
      (2, ("short transfer, then ENOSPC", .failsAfter(bytes: random.below(4096), errno: ENOSPC))),
      (3, ("EIO, landing later", .failsLandsLater(errno: EIO))),
    ])
    disk.inject(fault, at: call)
    armed = "write or sync: \(name)"
  }

  func injectReadFault() {
    let call = Call.read(disk.reads + 1 + random.below(20))
    if random.chance(50) {
      disk.inject(.fails(errno: EIO), at: call)
      armed = "read: EIO"
    } else {
      disk.inject(.failsAfter(bytes: random.below(4096), errno: EIO), at: call)
      armed = "read: short transfer, then EIO"
    }
  }

  /// Something is said to be done and isn't.
  private func injectLie(_ call: Call) {
    hasLied = (true, true)
    saved = []
    if random.chance(50) {
      disk.inject(.lost, at: call)
      armed = "lost write or sync"
    } else {
      // Room for the longest write of so small a store.
      let room = Int(geometry.imageSize.value) - (1 << 18) - 2 * geometry.blockSize
      guard room > 0 else { return }
      disk.inject(.misdirected(to: ByteOffset(random.below(room) / 4096 * 4096)), at: call)
      armed = "misdirected write"
    }
  }
}
