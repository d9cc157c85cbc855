import BlockIO
import Primitives

/// An image in memory, at whose every call another thread may go on, and which knows what it was before the schedule.
///
/// It says itself what must not happen: two calls at once, a call after `close`, a write after a failure, any call
/// while it is to be left alone. Touched by the thread whose turn it is.
final class ScheduleDisk: BlockDevice, @unchecked Sendable {
  let name = "schedule"
  let blockSize = 4096
  let isWritable = true
  private var bytes: [UInt8]
  /// What writes since `restore` have replaced, in order.
  private var undo: [(offset: Int, bytes: [UInt8])] = []
  /// How many of these writes are durable: made before the last sync that succeeded began.
  private(set) var durable = 0

  /// `nil`: nobody explores, and calls are as those of any device.
  var schedule: Schedule?
  /// How long a sync takes, of the schedule's time.
  var syncDuration = Duration.zero
  /// Writes and syncs that succeed before one fails; `nil`: none does.
  var operationsUntilFailure: Int?
  /// Why nobody may touch it now.
  var prohibition: String?

  private(set) var isOpen = true
  private(set) var hasFailed = false
  private(set) var syncs = 0
  /// When the last sync that succeeded began, in the schedule's ticks.
  private(set) var durableSince = -1
  private var isInUse = false

  init(size: Int) { bytes = [UInt8](repeating: 0, count: size) }

  var size: ByteCount { ByteCount(bytes.count) }

  /// As it was when this was called last.
  func restore() {
    takeBack(to: 0)
    keep()
    (schedule, syncDuration, operationsUntilFailure, prohibition) = (nil, .zero, nil, nil)
    (hasFailed, syncs, durableSince, isInUse) = (false, 0, -1, false)
    reopen()
  }

  /// What it holds now is what `restore` gives.
  func keep() {
    undo.removeAll(keepingCapacity: true)
    durable = 0
  }

  /// Power was cut when so many writes were durable, and the others never reached the medium.
  func losePower(_ durable: Int) {
    takeBack(to: durable)
    self.durable = durable
  }

  private func takeBack(to count: Int) {
    for change in undo[count...].reversed() {
      bytes.replaceSubrange(change.offset..<change.offset + change.bytes.count, with: change.bytes)
    }
    undo.removeSubrange(count...)
  }

  func reopen() { (isOpen, hasFailed) = (true, false) }

  func close() { isOpen = false }

  func read(at offset: ByteOffset, into destination: consuming MutableSpan<UInt8>) throws(BlockError) {
    begin("read")
    defer { isInUse = false }
    let start = Int(offset.value)
    guard start + destination.count <= bytes.count else {
      throw BlockError(.truncated, device: name, "reading \(destination.count) bytes at \(offset) of \(size)")
    }
    unsafe destination.withUnsafeMutableBytes { destination in
      unsafe bytes.withUnsafeBytes { bytes in
        unsafe destination.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[start..<start + destination.count]))
      }
    }
  }

  func write(_ source: Span<UInt8>, at offset: ByteOffset) throws(BlockError) {
    begin("write")
    defer { isInUse = false }
    try mayFail()
    let start = Int(offset.value)
    guard start + source.count <= bytes.count else {
      throw BlockError(.noSpace, device: name, "writing \(source.count) bytes at \(offset) of \(size)")
    }
    if start == 0 { schedule?.noteHeaderWrite() }
    if schedule != nil { undo.append((start, Array(bytes[start..<start + source.count]))) }
    unsafe source.withUnsafeBytes { source in
      unsafe bytes.withUnsafeMutableBytes { bytes in
        unsafe UnsafeMutableRawBufferPointer(rebasing: bytes[start..<start + source.count]).copyMemory(from: source)
      }
    }
  }

  func sync() throws(BlockError) {
    let began = schedule?.ledger.tick() ?? 0
    begin("sync")
    defer { isInUse = false }
    let written = undo.count
    if let schedule, syncDuration > .zero { schedule.threads.pass(syncDuration) }
    try mayFail()
    syncs += 1
    durableSince = began
    durable = written
  }

  private func begin(_ call: String) {
    guard let schedule else { return }
    if !isOpen { schedule.fail("promise 5: a \(call) after the device was closed") }
    if isInUse { schedule.fail("two threads use the device at once") }
    if let prohibition { schedule.fail("\(prohibition): a \(call)") }
    if hasFailed, call != "read" { schedule.fail("promise 11: a \(call) after a write or sync has failed") }
    isInUse = true
    schedule.threads.yield()
    if let prohibition { schedule.fail("\(prohibition): a \(call)") }
  }

  private func mayFail() throws(BlockError) {
    guard let left = operationsUntilFailure else { return }
    operationsUntilFailure = left - 1
    guard left <= 0 else { return }
    operationsUntilFailure = nil
    hasFailed = true
    throw BlockError(errno: 5, device: name, "writing, as the schedule has it,")
  }
}
