import BlobStore
import Primitives

/// Names a request that waits, for calling it off.
public struct NVRAMRequestID: Hashable, Sendable {
  let number: UInt64
}

/// One request. `phase`, `mayLead` and what says who asked belong to the NVRAM's lock; the rest belongs to the thread that
/// has the core from when the request is served until it has ended, and before and after that to who made it.
package final class Request {
  package enum Operation {
    /// The first `count` bytes of `buffer`, at an offset, or in place of the whole content.
    case write(at: UInt64)
    case replace
    /// Up to `count` bytes into `buffer`.
    case read(at: UInt64)
    /// All of the content, however much it is, into a new buffer.
    case readAll
    /// Nothing: it marks a place in the order.
    case barrier
  }

  enum Phase {
    case free
    case queued
    case served
    case ended
  }

  package enum Outcome {
    case none
    /// In the commit that is being put together.
    case staged
    case done
    case failed(NVRAMError)
  }

  package init() {}

  var number: UInt64 = 0
  var phase = Phase.free
  /// Whoever waits for this request has the core, and serves the queue.
  var mayLead = false
  var deadline: Instant?
  /// For who doesn't wait. Called once, without the lock.
  var completion: ((Request) -> Void)?
  /// For who waits.
  let finished = Condition()

  package var operation = Operation.barrier
  package var entry: RegisteredEntry?
  package private(set) var outcome = Outcome.none
  /// What is written, or what was read.
  package var buffer = ByteBuffer(count: 0)
  package var count = 0

  var isQueued: Bool { phase == .queued }
  var hasEnded: Bool { phase == .ended }
  var isStaged: Bool { if case .staged = outcome { true } else { false } }

  func stage() {
    guard case .none = outcome else { preconditionFailure("served twice") }
    outcome = .staged
  }

  /// Exactly once; `nil` for success.
  func settle(_ error: NVRAMError?) {
    switch outcome {
    case .none, .staged: outcome = error.map { .failed($0) } ?? .done
    case .done, .failed: preconditionFailure("settled twice")
    }
  }

  /// `nil` where it went well.
  package var failure: NVRAMError? {
    if case .failed(let error) = outcome { error } else { nil }
  }

  /// Takes a copy of what is to be written.
  package func hold(_ bytes: Span<UInt8>) {
    reserve(bytes.count)
    buffer.copy(from: bytes)
  }

  /// Makes room in the buffer for `count` bytes.
  package func reserve(_ count: Int) {
    if buffer.count < count { buffer = ByteBuffer(count: max(count, 512)) }
    self.count = count
  }

  private static let retained = 65536

  /// Ready for another use; what it held is wiped.
  func clear() {
    if buffer.count > Self.retained { buffer = ByteBuffer(count: 0) } else { buffer.wipe(0..<min(count, buffer.count)) }
    count = 0
    phase = .free
    outcome = .none
    operation = .barrier
    entry = nil
    deadline = nil
    completion = nil
    mayLead = false
  }
}
