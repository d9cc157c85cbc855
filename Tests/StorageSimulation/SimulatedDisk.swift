import BlockIO
import Glibc
import Primitives

/// A disk in memory that fails as disks do (FORMAT §7): when power goes, every block that was written and not yet
/// synced is old, new or garbage, each for itself; a write that reported an error may still land; a failed sync has
/// lost what it was to make durable, whatever a second one says.
///
/// Its caches lie, the page cache and the device's own alike: all reads give what was written last, though a failed
/// sync has lost it, to whoever opens the disk, until power goes. What was lost is durable once it was written and
/// synced anew.
///
/// Deterministic: the same calls, faults and seeds give the same bytes. Not for use from two threads at once.
public final class SimulatedDisk: BlockDevice {
  /// One write to a block that no sync has made durable yet.
  struct Version {
    let operation: Int
    /// The whole block after it.
    var bytes: [UInt8]
    /// Reported an error, and may land after later writes.
    let isLate: Bool
  }

  /// A block whose durable content is uncertain, in pages of 4096 bytes: bit n is page n.
  struct Pending {
    /// In the order of writing.
    var versions: [Version] = []
    /// The next sync writes these pages.
    var dirty: UInt16 = 0
    /// No sync will write these, which a failed one or a failed write left uncertain, until they are written anew.
    var lost: UInt16 = 0
  }

  /// Everything that a snapshot copies.
  struct State {
    /// What is there for sure, where nothing is pending.
    var durable: BlockStore
    /// What reads give.
    var current: BlockStore
    var pending: [Int: Pending] = [:]
    var faults: [Call: Fault] = [:]
    var unreadableBlocks: Set<Int> = []
    var cutAfter: Int?
    var isPowered = true
    var reads = 0
    var writes = 0
    var syncs = 0
    var faultsMet = 0
    var log: [Operation] = []
  }

  /// What all handles of one disk have in common.
  private final class Machine {
    var state: State
    init(_ state: State) { self.state = state }
  }

  public let name: String
  /// Also the unit in which blocks fail.
  public let blockSize: Int
  public let isWritable: Bool
  private let machine: Machine
  var state: State {
    _read { yield machine.state }
    _modify { yield &machine.state }
  }
  /// Called after every write and sync, successful or not, with its number: a run visits every cut point once, and a
  /// test takes crashed copies at each.
  public var afterOperation: ((Int) -> Void)?

  convenience init(_ state: State, name: String, isWritable: Bool) {
    self.init(Machine(state), name: name, isWritable: isWritable)
  }

  private init(_ machine: Machine, name: String, isWritable: Bool) {
    blockSize = machine.state.durable.unit
    precondition((4096...65536).contains(blockSize) && blockSize & (blockSize - 1) == 0)
    self.machine = machine
    self.name = name
    self.isWritable = isWritable
  }

  /// `size` zero bytes, all durable.
  public convenience init(size: ByteCount, blockSize: Int = 4096, name: String = "simulated disk") {
    let blocks = BlockStore(size: Int(size.value), unit: blockSize)
    self.init(State(durable: blocks, current: blocks), name: name, isWritable: true)
  }

  /// A disk that holds `bytes`, all durable.
  public convenience init(
    copyOf bytes: [UInt8], blockSize: Int = 4096, name: String = "simulated disk", isWritable: Bool = true
  ) {
    let blocks = BlockStore(bytes, unit: blockSize)
    self.init(State(durable: blocks, current: blocks), name: name, isWritable: isWritable)
  }

  public var size: ByteCount { ByteCount(state.current.size) }

  /// How many writes and syncs there were, failed ones included, calls without power not.
  public var operations: Int { state.writes + state.syncs }
  public var writes: Int { state.writes }
  public var syncs: Int { state.syncs }
  public var reads: Int { state.reads }
  /// How many of the injected faults have happened.
  public var faultsMet: Int { state.faultsMet }
  public var log: [Operation] { state.log }
  /// The blocks whose durable content is uncertain, in order.
  public var pendingBlocks: [Int] { state.pending.keys.sorted() }
  public var hasPower: Bool { state.isPowered }

  // MARK: BlockDevice

  public func read(at offset: ByteOffset, into destination: consuming MutableSpan<UInt8>) throws(BlockError) {
    try checkPower()
    state.reads += 1
    let count = destination.count
    guard fits(offset, count) else {
      throw BlockError(.truncated, device: name, "reading \(count) bytes at \(offset) of \(size)")
    }
    switch met(state.faults[.read(state.reads)]) {
    case .fails(let errno)?: throw injected(errno, "reading at \(offset)")
    case .failsAfter(let bytes, let errno)?:
      state.current.read(at: Int(offset.value), into: destination._mutatingExtracting(0..<min(bytes, count)))
      throw injected(errno, "reading at \(offset)")
    default: break
    }
    if !state.unreadableBlocks.isEmpty {
      for block in state.current.range(Int(offset.value), count) where state.unreadableBlocks.contains(block) {
        throw injected(EIO, "reading at \(offset)")
      }
    }
    state.current.read(at: Int(offset.value), into: destination)
  }

  public func write(_ source: Span<UInt8>, at offset: ByteOffset) throws(BlockError) {
    try checkPower()
    guard isWritable else { throw BlockError(.readOnly, device: name, "was opened for reading only") }
    guard fits(offset, source.count) else {
      throw BlockError(.noSpace, device: name, "writing \(source.count) bytes at \(offset) of \(size)")
    }
    state.writes += 1
    let fault = met(state.faults[.write(state.writes)] ?? state.faults[.operation(operations)])
    state.log.append(Operation(number: operations, kind: .write, offset: offset, count: source.count))
    defer { finishOperation() }
    let place = Int(offset.value)
    switch fault {
    case nil: apply(source, at: place)
    case .fails(let errno)?:
      note("failed")
      throw injected(errno, "writing at \(offset)")
    case .failsAfter(let bytes, let errno)?:
      note("failed after \(bytes) bytes")
      apply(source.extracting(first: bytes), at: place)
      throw injected(errno, "writing at \(offset)")
    case .failsLandsLater(let errno)?:
      note("failed, may land later")
      for block in state.current.range(place, source.count) {
        let version = Version(
          operation: operations, bytes: state.current.written(block, source, at: place), isLate: true)
        state.pending[block, default: Pending()].versions.append(version)
        state.pending[block]?.lost = allPages
      }
      throw injected(errno, "writing at \(offset)")
    case .lost?: note("lost")
    case .misdirected(let elsewhere)?:
      precondition(fits(elsewhere, source.count), "a write can't be misdirected past the end")
      note("misdirected to \(elsewhere.value)")
      apply(source, at: Int(elsewhere.value))
    }
  }

  public func sync() throws(BlockError) {
    try checkPower()
    state.syncs += 1
    let fault = met(state.faults[.sync(state.syncs)] ?? state.faults[.operation(operations)])
    state.log.append(Operation(number: operations, kind: .sync, offset: ByteOffset(0), count: 0))
    defer { finishOperation() }
    switch fault {
    case .fails(let errno)?, .failsAfter(_, let errno)?, .failsLandsLater(let errno)?:
      note("failed")
      // A block that was torn has lost its clean pages, too.
      for (block, pending) in state.pending where pending.dirty != 0 {
        state.pending[block]?.dirty = 0
        state.pending[block]?.lost = allPages
      }
      throw injected(errno, "syncing")
    case .lost?, .misdirected?: note("lost")
    case nil: for block in Array(state.pending.keys) { settle(block) }
    }
  }

  // MARK: Faults

  /// Lets one call go wrong. Reads take `.fails` and `.failsAfter` only.
  public func inject(_ fault: Fault, at call: Call) { state.faults[call] = fault }

  /// Reads of this block (in units of `blockSize`) report EIO, until `clearFaults`.
  public func makeUnreadable(block: Int) { state.unreadableBlocks.insert(block) }

  /// The blocks that can't be read.
  public var unreadable: Set<Int> { state.unreadableBlocks }

  /// Forgets every fault that has not happened yet. What happened stays.
  public func clearFaults() {
    state.faults = [:]
    state.unreadableBlocks = []
    state.cutAfter = nil
  }

  /// Lets power go right after the n-th write or sync since the disk was made (0: before the first): that one has
  /// returned, and every call from then on throws `.inputOutput(errno: EIO)`, "power is off". A write that was under
  /// way is one that is still pending, a sync that was under way is a cut after the write before it; so the values 0 to
  /// `operations` are all there are.
  public func cutPower(afterOperation n: Int) {
    state.cutAfter = n
    if operations >= n { state.isPowered = false }
  }

  /// Bit rot: what was written comes back otherwise. Bit 0 is the lowest of byte 0.
  public func flip(bit: Int) {
    let mask = UInt8(1) << UInt8(bit & 7)
    overwrite(ByteOffset(bit / 8), with: [byte(at: bit / 8) ^ mask])
  }

  /// Changes bytes behind everybody's back, durably, whether or not the disk has power.
  public func overwrite(_ offset: ByteOffset, with bytes: [UInt8]) {
    precondition(fits(offset, bytes.count), "past the end")
    state.durable.write(bytes.span, at: Int(offset.value))
    state.current.write(bytes.span, at: Int(offset.value))
  }

  /// Cuts bytes off the end, or adds zeros, durably.
  public func resize(to size: ByteCount) {
    state.durable.resize(to: Int(size.value))
    state.current.resize(to: Int(size.value))
    let blocks = state.current.range(0, Int(size.value))
    for block in pendingBlocks where !blocks.contains(block) { state.pending[block] = nil }
  }

  // MARK: Content

  /// What reads would give.
  public var bytes: [UInt8] { state.current.bytes }

  /// What is there if nothing lands that was not synced.
  public var durableBytes: [UInt8] { state.durable.bytes }

  public func byte(at offset: Int) -> UInt8 {
    state.current[offset / state.current.unit][offset % state.current.unit]
  }

  /// A copy with everything: what is pending, the faults to come, the counts. Shares all blocks.
  public func snapshot() -> SimulatedDisk {
    SimulatedDisk(state, name: name, isWritable: isWritable)
  }

  /// The same disk as another process opens it, or another host: what either writes both read, and what a failed sync
  /// has lost both go on reading. Faults, counts and power are the disk's; `afterOperation` is called for one's own
  /// calls.
  public func opened(isWritable: Bool = true) -> SimulatedDisk {
    SimulatedDisk(machine, name: name, isWritable: isWritable)
  }

  /// A disk with what reads of this one give, all durable; no faults, nothing counted. Shares all blocks.
  public func copy(isWritable: Bool = true) -> SimulatedDisk {
    SimulatedDisk(
      State(durable: state.current, current: state.current), name: name, isWritable: isWritable)
  }

  /// Puts what `other` has in a range in its place, durably, behind everybody's back.
  public func overwrite(_ range: Range<Int>, from other: SimulatedDisk) {
    var bytes = [UInt8](repeating: 0, count: range.count)
    other.state.current.read(at: range.lowerBound, into: bytes.mutableSpan)
    overwrite(ByteOffset(range.lowerBound), with: bytes)
  }

  /// What reads give of a range.
  public func bytes(_ range: Range<Int>) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: range.count)
    state.current.read(at: range.lowerBound, into: bytes.mutableSpan)
    return bytes
  }

  /// The operations so far, one a line, the last `count` of them.
  public func logText(last count: Int = 200) -> String {
    state.log.suffix(count).map(\.description).joined(separator: "\n")
  }
}

// MARK: Parts

extension SimulatedDisk {
  private func apply(_ source: Span<UInt8>, at offset: Int) {
    for block in state.current.range(offset, source.count) {
      let bytes = state.current.written(block, source, at: offset)
      state.current[block] = bytes
      let version = Version(operation: operations, bytes: bytes, isLate: false)
      let first = max(offset - block * blockSize, 0) / Self.page
      let last = (min(offset + source.count - block * blockSize, blockSize) - 1) / Self.page
      let pages = UInt16(truncatingIfNeeded: (1 << (last + 1)) - (1 << first))
      state.pending[block, default: Pending()].versions.append(version)
      state.pending[block]?.dirty |= pages
      state.pending[block]?.lost &= ~pages
    }
  }

  static let page = 4096
  /// Of a block.
  private var allPages: UInt16 { UInt16(truncatingIfNeeded: (1 << (blockSize / Self.page)) - 1) }

  /// A sync has made the block's dirty pages durable. What is lost stays uncertain.
  private func settle(_ block: Int) {
    guard var pending = state.pending[block], pending.dirty != 0 else { return }
    let current = state.current[block]
    if pending.lost == 0 {
      state.durable[block] = current
      state.pending[block] = nil
      return
    }
    for page in 0..<blockSize / Self.page where pending.dirty & 1 << page != 0 {
      let range = page * Self.page..<(page + 1) * Self.page
      state.durable[block].replaceSubrange(range, with: current[range])
      let mayLandLate = pending.lost & 1 << page != 0
      for i in pending.versions.indices where !(mayLandLate && pending.versions[i].isLate) {
        pending.versions[i].bytes.replaceSubrange(range, with: current[range])
      }
    }
    pending.dirty = 0
    state.pending[block] = pending
  }

  private func finishOperation() {
    if operations == state.cutAfter { state.isPowered = false }
    afterOperation?(operations)
  }

  private func met(_ fault: Fault?) -> Fault? {
    if fault != nil { state.faultsMet += 1 }
    return fault
  }

  private func note(_ text: String) { state.log[state.log.count - 1].note = text }

  private func fits(_ offset: ByteOffset, _ count: Int) -> Bool {
    offset <= ByteOffset(size.value) && UInt64(count) <= size.value - offset.value
  }

  private func checkPower() throws(BlockError) {
    guard state.isPowered else { throw BlockError(.inputOutput(errno: EIO), device: name, "power is off") }
  }

  private func injected(_ errno: Int32, _ action: String) -> BlockError {
    BlockError(errno: errno, device: name, "\(action) (injected)")
  }
}
