import CSystem
import Glibc

/// Tells when nothing was done for a while, and once at the beginning, when starting is over. It costs nothing while
/// something is done: the kernel's timer goes on by itself, and is listened to only until it has found the server idle.
struct IdleTimer {
  /// -1 where the kernel has none to give; then nothing is ever told.
  private let descriptor: Int32
  private var registration = EventRegistration()
  private var isBusy = false
  private var isListening = false
  private var isNew = true

  /// Seconds to the first look, and between two.
  private static let (first, interval): (Int32, Int32) = (1, 5)

  init() { descriptor = csystem_timer(Self.first, Self.interval) }

  /// Closes the timer. A struct has no deinit.
  mutating func close() {
    registration.end(of: descriptor)
    if descriptor >= 0 { Glibc.close(descriptor) }
  }

  /// Something was done.
  mutating func noteUse(in set: EventSet) {
    isBusy = true
    guard !isListening else { return }
    isListening = true
    registration.wait(for: .input, of: descriptor, at: EventPlace.timer, in: set)
  }

  /// The timer has rung. Whether nothing was done since it rang before, which is told once, or it never rang before.
  mutating func isIdle(in set: EventSet) -> Bool {
    var count: UInt64 = 0
    _ = unsafe read(descriptor, &count, 8)
    defer { (isBusy, isNew) = (false, false) }
    guard !isBusy else { return isNew }
    isListening = false
    registration.wait(for: nil, of: descriptor, at: EventPlace.timer, in: set)
    return true
  }
}
