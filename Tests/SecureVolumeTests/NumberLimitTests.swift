import BlockIO
import Crypto
import Primitives
import StorageSimulation
import Testing

@testable import SecureVolume

/// Numbers stay below 2^63 (FORMAT): who would get there stops before anything is written, and readers go on; what is
/// there already is no header.
struct NumberLimitTests {
  static let limit: UInt64 = 1 << 63
  static let fields: [(String, @Sendable (inout Header, UInt64) -> Void)] = [
    ("headerSequence", { $0.sequence = $1 }), ("generation", { $0.generation = Generation($1) }),
    ("nextSequence", { $0.cursor.sequence = $1 }),
  ]

  private func make(clean: Bool) throws -> (SimulatedDisk, SecureVolume) {
    let geometry = try #require(Geometry(blockSize: 4096, sectorCount: 3))
    let disk = SimulatedDisk(size: geometry.imageSize)
    try format(disk, geometry, key: makeKey(1), content: [1, 2, 3])
    let volume = try open(disk, makeKey(1))
    if clean { try volume.close() }
    return (disk, volume)
  }

  @Test(arguments: [true, false]) func theLastNumberIsReadAndNotWritten(clean: Bool) throws {
    for (name, set) in Self.fields {
      let (disk, volume) = try make(clean: clean)
      let last = try forged(disk, volume) { set(&$0, Self.limit - 1) }
      let error = thrownError { _ = try open(last, makeKey(1)) }
      #expect(error?.code == .noSpace && error?.status.rawValue == 10, "\(name): \(error?.description ?? "it opened")")
      #expect(last.writes == 0 && last.syncs == 0, "\(name)")
      let reading = try open(SimulatedDisk(copyOf: last.bytes, isWritable: false), makeKey(1))
      #expect(try contents(reading) == [1, 2, 3], "\(name)")
      let beyond = try forged(disk, volume) { set(&$0, Self.limit) }
      #expect(thrownError { _ = try open(beyond, makeKey(1)) }?.code == .notAuthentic(.header), "\(name)")
      #expect(beyond.writes == 0)
    }
  }

  /// A number of which some are left: each writer stops by itself, and what it acknowledged is there.
  @Test func fewNumbersAreLeft() throws {
    for (name, set) in Self.fields {
      for left in UInt64(2)...8 {
        let (disk, volume) = try make(clean: true)
        let near = try forged(disk, volume) { set(&$0, Self.limit - left) }
        var acknowledged: [UInt64?] = [1, 2, 3]
        for stamp in UInt64(10)...20 {
          let error = thrownError {
            let volume = try open(near, makeKey(1))
            try volume.commit(changes(4096, [(0, stamp)]))
            acknowledged[0] = stamp
            try volume.close()
          }
          if error != nil { #expect(error?.code == .noSpace, "\(name), \(left) left: \(error?.description ?? "")") }
          let reading = try open(SimulatedDisk(copyOf: near.bytes, isWritable: false), makeKey(1))
          #expect(try contents(reading) == acknowledged, "\(name), \(left) left")
        }
      }
    }
  }

  /// A record at the end of the numbers.
  @Test func theLastRecord() throws {
    let (disk, volume) = try make(clean: false)
    for field in 1...2 {
      let near = try forged(disk, volume) { Self.fields[field].1(&$0, Self.limit - 3) }
      let writer = try open(near, makeKey(1))
      var stamp: UInt64 = 9
      var error: VolumeError?
      while error == nil, stamp < 20 {
        error = thrownError { try writer.commit(changes(4096, [(0, stamp + 1)])) }
        if error == nil { stamp += 1 }
      }
      #expect(error?.code == .noSpace && stamp > 9)
      let before = near.operations
      let again = thrownError { _ = try open(near, makeKey(1)) }
      #expect(again?.code == .noSpace && near.operations == before)
      let reading = try open(SimulatedDisk(copyOf: near.bytes, isWritable: false), makeKey(1))
      #expect(try contents(reading) == [stamp, 2, 3])
    }
  }
}
