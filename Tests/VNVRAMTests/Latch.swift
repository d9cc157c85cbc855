import BlockIO
import Dispatch
import Foundation
import Primitives

@testable import VNVRAM

/// A door that threads wait at until it is opened. Nobody waits for ever: a test that would hang fails.
final class Latch: Sendable {
  private let semaphore = DispatchSemaphore(value: 0)

  func open() { semaphore.signal() }

  /// Whether it was opened, within a minute.
  @discardableResult
  func wait() -> Bool {
    guard semaphore.wait(timeout: .now() + .seconds(60)) == .success else { return false }
    semaphore.signal()
    return true
  }
}

extension Running {
  /// Whether the thread ends: waits for it, but not for ever.
  func ends() -> Bool { eventually { hasEnded } }
}

extension NVRAM {
  /// Closes it on a thread of its own, so that a close that hangs is a failure of the test and no more.
  func closes() -> Bool { Running { try? self.close() }.ends() }

  var isLocked: Bool { state.name == "locked" }
}

/// Holds up each sync of a device while it is closed.
final class SyncDoor: Sendable {
  private let doors = Locked<(reached: Latch, opened: Latch)?>(nil)

  /// From now on each sync waits for `open`. The latch opens when one does.
  func close() -> Latch {
    let reached = Latch()
    doors.withLock { $0 = (reached, Latch()) }
    return reached
  }

  func open() {
    doors.withLock { doors in
      doors?.opened.open()
      doors = nil
    }
  }

  func pass() {
    guard let (reached, opened) = doors.withLock({ $0 }) else { return }
    reached.open()
    opened.wait()
  }
}

/// An image file whose syncs a test can hold up.
final class DeviceWithDoor: BlockDevice {
  private let file: FileDevice
  private let door: SyncDoor

  init(path: String, _ door: SyncDoor) throws {
    file = try FileDevice.open(path: path, access: .readWrite)
    self.door = door
  }

  var name: String { file.name }
  var size: ByteCount { file.size }
  var blockSize: Int { file.blockSize }
  var isWritable: Bool { file.isWritable }

  func read(at offset: ByteOffset, into destination: consuming MutableSpan<UInt8>) throws(BlockError) {
    try file.read(at: offset, into: destination)
  }

  func write(_ source: Span<UInt8>, at offset: ByteOffset) throws(BlockError) { try file.write(source, at: offset) }

  func sync() throws(BlockError) {
    door.pass()
    try file.sync()
  }

  func allocate(_ length: ByteCount) throws(BlockError) { try file.allocate(length) }

  func close() { file.close() }
}

/// Threads that write one entry without a pause, some of them waiting for each write, and what became of these.
final class Load: Sendable {
  struct Count {
    var accepted = 0
    var told = 0
    /// The most that were accepted and not yet told at one time.
    var outstanding = 0
    var mustEnd = false
  }

  private let count = Locked(Count())
  private let threads = Locked<[Running<Void>]>([])
  /// So many that wait to be told are beyond any bound: the load ends, before memory does.
  private let tooMany: Int

  init(_ nvram: NVRAM, threads: Int = 2, waiting: Int = 0, of size: Int, tooMany: Int) {
    self.tooMany = tooMany
    let bytes = [UInt8](repeating: 1, count: size)
    let submitting = (0..<threads).map { _ in
      repeating { [self] in try nvram.submit("state", bytes) { _ in self.tell() } }
    }
    let waiting = (0..<waiting).map { _ in
      repeating { [self] in
        try nvram.replace("state", bytes)
        tell()
      }
    }
    self.threads.withLock { $0 = submitting + waiting }
  }

  private func repeating(_ write: @escaping @Sendable () throws -> Void) -> Running<Void> {
    Running { [self] in
      while !isOver {
        switch failure(write)?.code {
        case nil: accept()
        case .queueFull: sched_yield()
        default: return
        }
      }
    }
  }

  private func tell() { count.withLock { $0.told += 1 } }

  private func accept() {
    count.withLock { count in
      count.accepted += 1
      count.outstanding = max(count.outstanding, count.accepted - count.told)
    }
  }

  var now: Count { count.withLock { $0 } }
  var hasOverrun: Bool { now.outstanding > tooMany }
  private var isOver: Bool { count.withLock { $0.mustEnd || $0.outstanding > tooMany } }

  /// Whether its threads end.
  func ends() -> Bool {
    count.withLock { $0.mustEnd = true }
    return threads.withLock { $0 }.allSatisfy { $0.ends() }
  }
}
