import Primitives

// Freeing journal space between commits. Where writers come one after the other without a pause, each does one step
// after its own commit: handing the core to another thread and back would cost more than the step. Where there is a
// pause, the worker does it all, and no writer waits for more than a step.
extension NVRAM {
  /// So long after the last request a pause begins.
  static var pause: Duration { .milliseconds(1) }

  /// After requests were served, by who has the core, with the lock.
  func noteServed(_ s: NVRAMShared) {
    guard let core = s.core else { return }
    let now = Instant.now
    // From one's end to the other's beginning: a commit alone may take longer than a pause.
    let isBusy = s.coreTaken < s.lastServed.advanced(by: Self.pause)
    s.lastServed = now
    noteAnchor(s, core, now)
    guard core.wantsMaintenance else { return s.upkeepDue = nil }
    if isBusy, s.queue.isEmpty, s.coreWaiters == 0 { _ = monitor.withoutLock { core.maintain() } }
    // Told once; it looks again by itself as long as the pause is put off.
    if s.upkeepDue == nil { s.workerHasWork.signal() }
    s.upkeepDue = now.advanced(by: Self.pause)
  }

  /// By the worker, which has the core: a step at a time, while nobody wants anything.
  func keepUp(_ s: NVRAMShared) {
    guard let due = s.upkeepDue, due <= .now else { return }
    s.upkeepDue = nil
    defer { if let core = s.core { noteAnchor(s, core, .now) } }
    while s.queue.isEmpty, s.coreWaiters == 0, let core = s.core, core.wantsMaintenance {
      guard monitor.withoutLock({ core.maintain() }) else { return }
    }
    if s.core?.wantsMaintenance == true { s.upkeepDue = Instant.now.advanced(by: Self.pause) }
  }

  // MARK: The anchor

  func isAnchorDue(_ s: NVRAMShared) -> Bool { s.anchorDue.map { $0 <= .now } ?? false }

  /// A store that writes rarely would otherwise leave its last commits unknown to the anchor for days.
  private func noteAnchor(_ s: NVRAMShared, _ core: StoreCore, _ now: Instant) {
    guard let volume = core.volume, volume.isAheadOfAnchor else {
      s.hasAnchorTrouble = false
      return s.anchorDue = nil
    }
    if let failure = volume.anchorFailure, !s.hasAnchorTrouble {
      s.hasAnchorTrouble = true
      s.tell(.trouble(NVRAMError(failure)))
    }
    guard s.anchorDue == nil else { return }
    s.anchorDue = now.advanced(by: configuration.longestAnchorInterval)
    s.workerHasWork.signal()
  }

  /// By the worker, which has the core.
  func requestAnchor(_ s: NVRAMShared) {
    guard let due = s.anchorDue, due <= .now else { return }
    s.anchorDue = nil
    guard let volume = s.core?.volume else { return }
    volume.requestAnchor()
    if s.upkeepDue == nil { s.upkeepDue = .now }
  }
}
