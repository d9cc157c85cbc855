import BlockIO
import Crypto
import Primitives
import StorageSimulation
import Testing

@testable import SecureVolume

/// Two writers on one disk, as two hosts have it, whom no lock keeps apart: the first notices before its next
/// checkpoint, writes nothing more, and the second's store stays whole.
struct AnotherWriterTests {
  static let geometry = Geometry(blockSize: 4096, sectorCount: 6)

  enum What: CaseIterable {
    case opened, committed, checkpointed, closed
  }

  enum How: CaseIterable {
    case checkpoint, close, slot, scrub

    /// What comes to writing headers, or to freeing space.
    func run(on volume: SecureVolume) throws {
      switch self {
      case .checkpoint:
        try volume.startCheckpoint()
        try volume.finishCheckpoint()
      case .close: try volume.close()
      case .slot: try volume.addSlot(makeKey(2), name: "two", created: 1)
      case .scrub: try volume.scrub()
      }
    }
  }

  @Test(arguments: What.allCases, How.allCases)
  func theFirstStops(_ what: What, _ how: How) throws {
    let geometry = try #require(Self.geometry)
    let disk = SimulatedDisk(size: geometry.imageSize)
    try format(disk, geometry, key: makeKey(1))
    let first = try open(disk, makeKey(1))
    try first.commit(changes(4096, [(0, 1), (1, 1)]))
    let second = try open(disk, makeKey(1))
    #expect(try contents(second).prefix(2) == [1, 1])
    var expected: [UInt64?] = [1, 1, 0, 0, 0, 0]
    if what != .opened {
      try second.commit(changes(4096, [(2, 2)]))
      expected[2] = 2
    }
    if what == .checkpointed {
      try second.startCheckpoint()
      try second.finishCheckpoint()
    }
    if what == .closed { try second.close() }
    let before = disk.bytes
    let operations = disk.operations
    let error = thrownError { try how.run(on: first) }
    #expect(error?.code == .anotherWriter && error?.status.rawValue == 9, "\(error?.description ?? "it went on")")
    // From now on everything ends so.
    for attempt: () throws -> Void in [
      { try first.commit(changes(4096, [(3, 3)])) }, { try first.close() }, { _ = try first.startCheckpoint() },
    ] { #expect(thrownError(attempt)?.code == .anotherWriter) }
    #expect(disk.operations == operations && disk.bytes == before)
    #expect(try contents(second) == expected)
    if what != .closed { try second.close() }
    #expect(try contents(open(disk, makeKey(1))) == expected)
  }

  /// A checkpoint that began before the other opened goes on to its end; the next one doesn't begin.
  @Test func withinACheckpoint() throws {
    let geometry = try #require(Self.geometry)
    let disk = SimulatedDisk(size: geometry.imageSize)
    try format(disk, geometry, key: makeKey(1))
    let first = try open(disk, makeKey(1))
    try first.commit(changes(4096, [(0, 1)]))
    try first.startCheckpoint()
    try first.finishCheckpoint()
    try first.commit(changes(4096, [(0, 2)]))
    _ = try open(disk, makeKey(1))
    try first.startCheckpoint()
    #expect(thrownError { try first.finishCheckpoint() }?.code == .anotherWriter)
    #expect(try contents(open(disk, makeKey(1)))[0] == 2)
  }
}
