import BlobStore
import Glibc
import Primitives

// Who has the core, and what it does with it. All of these are called with the lock, by the thread that has the core or
// is about to have it.
extension NVRAM {
  /// Waits for the core and takes it, for something other than serving the queue. False where the deadline passed.
  func takeCore(_ s: NVRAMShared, until deadline: Instant? = nil) -> Bool {
    s.coreWaiters += 1
    defer { s.coreWaiters -= 1 }
    while s.coreIsTaken {
      if let deadline, deadline <= .now { return false }
      monitor.wait(for: s.coreIsFree, until: deadline)
    }
    s.coreIsTaken = true
    return true
  }

  /// Gives the core back: to someone who waits for it, else to the next who serves the queue.
  func releaseCore(_ s: NVRAMShared) {
    noteFailure(s)
    s.coreIsTaken = false
    if s.coreWaiters > 0 { return s.coreIsFree.signal() }
    guard s.state == .running else { return }
    guard !s.queue.isEmpty else { return }
    if let request = s.queue.firstWithWaiter {
      // Given, not offered: nobody else takes it in the meantime.
      s.coreIsTaken = true
      request.mayLead = true
      request.finished.signal()
    } else {
      s.workerHasWork.signal()
    }
  }

  /// A commit that failed ends everything: what it was to write may be there or not, and nothing more is written.
  private func noteFailure(_ s: NVRAMShared) {
    guard let failure = s.core?.failure else { return }
    fail(s, failure)
  }

  func fail(_ s: NVRAMShared, _ error: NVRAMError) {
    s.core = nil
    s.opener = nil
    s.watch.stop()
    s.become(.failed(error))
    s.failQueue(error)
  }

  /// Serves what is in the queue, together and in order, until it is empty, a commit has failed, or someone else wants
  /// the core. With `own`, a request that waits, until that has ended.
  func serveQueue(_ s: NVRAMShared, own: Request? = nil) {
    while s.state == .running, let core = s.core, core.failure == nil, s.coreWaiters == 0 || own != nil {
      if own?.hasEnded == true { return }
      let batch = takeBatch(s)
      guard !batch.isEmpty else { return }
      monitor.withoutLock { core.serve(batch) }
      for request in batch { s.end(request) }
      // Not under the lock, which all of them want first.
      let waiting = batch.filter { $0.completion == nil && $0 !== own }.map(\.finished)
      if !waiting.isEmpty { monitor.withoutLock { for condition in waiting { condition.signal() } } }
    }
  }

  private static var batchLimit: Int { 256 }

  private func takeBatch(_ s: NVRAMShared) -> [Request] {
    var batch: [Request] = []
    batch.reserveCapacity(min(s.queue.count, Self.batchLimit))
    while batch.count < Self.batchLimit, let request = s.queue.takeFirst() {
      request.phase = .served
      batch.append(request)
    }
    return batch
  }
}
