import BlockIO
import Crypto
import Primitives
import StorageSimulation
import Testing

@testable import SecureVolume

/// A reader beside a writer, at the finest grain: what the writer wrote was taken down block by block, and goes on
/// block by block between the pieces that the reader reads. Nothing is ever damaged here, so nobody may say so.
struct WriterTraceTests {
  /// What a writer did to a disk, in order.
  private final class Trace {
    enum Step {
      /// One block of a write.
      case write(ByteOffset, [UInt8])
      /// From here on this is acknowledged.
      case acknowledged(UInt64, Stamps)
    }
    var steps: [Step] = []
  }

  /// Takes down what is written.
  private final class Recorder: BlockDevice {
    let disk: SimulatedDisk
    let trace: Trace
    init(_ disk: SimulatedDisk, _ trace: Trace) { (self.disk, self.trace) = (disk, trace) }

    var name: String { disk.name }
    var size: ByteCount { disk.size }
    var blockSize: Int { disk.blockSize }
    let isWritable = true

    func read(at offset: ByteOffset, into destination: consuming MutableSpan<UInt8>) throws(BlockError) {
      try disk.read(at: offset, into: destination)
    }
    func write(_ source: Span<UInt8>, at offset: ByteOffset) throws(BlockError) {
      for start in stride(from: 0, to: source.count, by: 4096) {
        let piece = source.extracting(start..<min(start + 4096, source.count)).array
        trace.steps.append(.write(ByteOffset(offset.value + UInt64(start)), piece))
      }
      try disk.write(source, at: offset)
    }
    func sync() throws(BlockError) { try disk.sync() }
  }

  /// The disk as it was at the trace's beginning, on which steps happen between reads.
  private final class Replayed: BlockDevice {
    let disk: SimulatedDisk
    let trace: Trace
    var next = 0
    /// Steps happen before one of so many pieces, as often as this.
    let calm: Int
    var random: SeededGenerator
    private(set) var acknowledged: UInt64
    private(set) var states: [UInt64: Stamps] = [:]

    init(_ start: SimulatedDisk, _ trace: Trace, calm: Int, seed: UInt64, acknowledged: UInt64) {
      (disk, self.trace, self.calm, self.acknowledged) = (start.copy(), trace, calm, acknowledged)
      random = SeededGenerator(seed: seed)
      for case .acknowledged(let generation, let content) in trace.steps { states[generation] = content }
    }

    let name = "replayed disk"
    var size: ByteCount { disk.size }
    var blockSize: Int { disk.blockSize }
    let isWritable = false
    let mayChange = true
    var isOver: Bool { next == trace.steps.count }

    func step() {
      guard !isOver else { return }
      switch trace.steps[next] {
      case .write(let offset, let bytes): disk.overwrite(offset, with: bytes)
      case .acknowledged(let generation, _): acknowledged = generation
      }
      next += 1
    }

    func read(at offset: ByteOffset, into destination: consuming MutableSpan<UInt8>) throws(BlockError) {
      var done = 0
      while done < destination.count {
        let count = min(4096, destination.count - done)
        while Int.random(in: 0..<calm, using: &random) == 0 { step() }
        try disk.read(
          at: ByteOffset(offset.value + UInt64(done)), into: destination._mutatingExtracting(done..<done + count))
        done += count
      }
    }
    func write(_ source: Span<UInt8>, at offset: ByteOffset) throws(BlockError) { fatalError("opened for reading") }
    func sync() throws(BlockError) { fatalError("opened for reading") }
  }

  static let geometries: [Geometry] = [
    Geometry(blockSize: 4096, sectorCount: 12), Geometry(blockSize: 16384, sectorCount: 5),
  ].compactMap { $0 }

  /// Commits, checkpoints in steps, slots, closing and opening anew.
  private func write(_ disk: any BlockDevice, _ geometry: Geometry, _ trace: Trace, seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    var volume = try open(disk, makeKey(1))
    var content = try contents(volume).map { $0 ?? 0 }
    for step in 1...120 {
      var updates: [Int: UInt64] = [:]
      for _ in 0..<Int.random(in: 1...3, using: &random) {
        updates[Int.random(in: 0..<content.count, using: &random)] = UInt64(step)
      }
      for (sector, stamp) in updates { content[sector] = stamp }
      try volume.commit(changes(geometry.blockSize, updates.map { ($0.key, $0.value) }))
      trace.steps.append(.acknowledged(volume.generation.value, content))
      if volume.checkpoint == nil, step % 9 == 0 { try volume.startCheckpoint() }
      _ = try volume.maintain()
      if step == 50 { try volume.addSlot(makeKey(2), name: "two", created: 1) }
      if step % 40 == 0 {
        if step != 80 { try volume.close() }
        volume = try open(disk, makeKey(1))
      }
    }
  }

  @Test(arguments: geometries, [3, 10, 40, 200])
  func noFalseDamage(_ geometry: Geometry, _ calm: Int) throws {
    let disk = SimulatedDisk(size: geometry.imageSize)
    try format(disk, geometry, key: makeKey(1))
    var volume = try open(disk, makeKey(1))
    try volume.commit(changes(geometry.blockSize, [(0, 5000)]))
    let start = disk.copy()
    let begin = volume.generation.value
    volume = try open(SimulatedDisk(copyOf: disk.bytes, isWritable: false), makeKey(1))
    let first = try contents(volume).map { $0 ?? 0 }
    let trace = Trace()
    try write(Recorder(disk, trace), geometry, trace, seed: UInt64(calm))
    var (whole, inUse) = (0, 0)
    for seed in 0..<UInt64(6) {
      let view = Replayed(start, trace, calm: calm, seed: seed, acknowledged: begin)
      // From another moment each time.
      for _ in 0..<trace.steps.count * Int(seed) / 6 { view.step() }
      while !view.isOver {
        let before = view.acknowledged
        do {
          let copy = try SealedVolume(view).unlock(with: makeKey(1)).copy(to: SimulatedDisk(size: geometry.imageSize))
          let generation = copy.generation.value
          // A record may have been there, whole, a moment before it was acknowledged.
          #expect(before <= generation && generation <= view.acknowledged + 1)
          #expect(try contents(copy) == (generation == begin ? first : view.states[generation]))
          whole += 1
        } catch {
          #expect(error.code == .device(.inUse), "\(error)")
          inUse += 1
        }
      }
    }
    #expect(whole > 0)
    print("beside a writer, blocks of \(geometry.blockSize), calm \(calm): \(whole) copies whole, \(inUse) given up")
  }
}
