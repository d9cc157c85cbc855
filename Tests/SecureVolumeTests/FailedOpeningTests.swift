import Glibc
import Primitives
import StorageSimulation
import Testing

@testable import SecureVolume

/// Openings for writing that fail, one after the other, in caches that go on showing what was lost; then power goes in
/// the middle of the next. One header copy is in doubt after each failure, and which one, no read tells (FORMAT §7,
/// Recovery).
struct FailedOpeningTests {
  /// How the image was left.
  enum Left: CaseIterable {
    case inUse, closed, withoutCopyA, withoutCopyB, withNewerCopyB
  }

  static let geometry = Geometry(blockSize: 4096, sectorCount: 2)
  static let content: [UInt64?] = [3, 2]

  @Test(arguments: Left.allCases)
  func nothingIsLostByThem(_ left: Left) throws {
    let image = try Self.image(left)
    let operations = try Self.operationsOfAnOpening(image)
    var tried = 0
    for first in 1...operations {
      let once = image.snapshot()
      Self.fail(once, at: first)
      try Self.cutInOpening(once, "\(left), failed at \(first)", &tried)
      for second in 1...operations {
        let twice = once.snapshot()
        Self.fail(twice, at: second)
        try Self.cutInOpening(twice, "\(left), failed at \(first), then at \(second)", &tried)
      }
    }
    print("power cuts after failed openings: \(left): \(tried) states tried")
  }

  private static func image(_ left: Left) throws -> SimulatedDisk {
    let geometry = try #require(geometry)
    let disk = SimulatedDisk(size: geometry.imageSize)
    try format(disk, geometry, key: makeKey(1))
    let volume = try open(disk, makeKey(1))
    for update in [(0, UInt64(1)), (1, 2), (0, 3)] { try volume.commit(changes(4096, [update])) }
    let garbage = [UInt8](repeating: 0xA5, count: 4096)
    switch left {
    case .inUse: break
    case .closed: try volume.close()
    case .withoutCopyA: disk.overwrite(ByteOffset(0), with: garbage)
    case .withoutCopyB: disk.overwrite(ByteOffset(65536), with: garbage)
    case .withNewerCopyB: try volume.writeHeader(volume.nextHeader(), copy: 1)
    }
    return disk.copy()
  }

  private static func operationsOfAnOpening(_ image: SimulatedDisk) throws -> Int {
    let disk = image.copy()
    _ = try open(disk, makeKey(1))
    return disk.operations
  }

  /// An opening whose n-th write or sync fails; later ones may do with fewer, and succeed.
  private static func fail(_ disk: SimulatedDisk, at n: Int) {
    disk.inject(.fails(errno: EIO), at: .operation(disk.operations + n))
    _ = try? open(disk, makeKey(1))
    disk.clearFaults()
  }

  /// The next opening on that disk, with power cuts after each of its writes and syncs.
  private static func cutInOpening(_ disk: SimulatedDisk, _ what: String, _ tried: inout Int) throws {
    let disk = disk.snapshot()
    var random = SeededGenerator(seed: 5)
    var crashed: [SimulatedDisk] = []
    disk.afterOperation = { _ in
      for cut in [PowerCut.garbage, .nothing, .oldOrNew] { crashed.append(disk.crashed(cut, using: &random)) }
    }
    _ = try open(disk, makeKey(1))
    disk.afterOperation = nil
    for (number, disk) in crashed.enumerated() {
      tried += 1
      do {
        #expect(try contents(open(disk, makeKey(1))) == content, "\(what), cut \(number)")
      } catch { Issue.record("\(what), cut \(number): \(error)") }
    }
  }

  /// A wrap is bound to the VM binding, too: a copy A that is torn there opens with no key, and copy B does.
  @Test func aKeyOpensTheOtherCopyWhereOneIsTornInItsBinding() throws {
    let disk = try Self.image(.inUse)
    disk.flip(bit: 3376 * 8)
    #expect(try contents(open(disk, makeKey(1))) == Self.content)
  }
}
