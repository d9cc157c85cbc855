import BlobStore
import Primitives

/// Names a request that waits, for calling it off.
public struct NVRAMRequestID: Hashable, Sendable {
  let number: UInt64
}

/// One request. Guarded by the NVRAM's lock while it waits; while it is being served it belongs to the thread that has
/// the core.
final class Request {
  enum Operation {
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

  enum Progress {
    case free
    case queued
    case served
    /// In the commit that is being put together.
    case staged
    case done
    case failed(NVRAMError)
  }

  var number: UInt64 = 0
  var operation = Operation.barrier
  var entry: RegisteredEntry?
  var deadline: Instant?
  var progress = Progress.free
  /// What is written, or what was read.
  var buffer = ByteBuffer(count: 0)
  var count = 0
  /// For who doesn't wait. Called once, without the lock.
  var completion: ((Request) -> Void)?
  /// For who waits.
  let finished = Condition()
  /// Whoever waits for this request has the core, and serves the queue.
  var mayLead = false

  var isQueued: Bool { if case .queued = progress { true } else { false } }
  var isStaged: Bool { if case .staged = progress { true } else { false } }
  var hasEnded: Bool {
    switch progress {
    case .done, .failed: true
    case .free, .queued, .served, .staged: false
    }
  }

  /// Exactly once.
  func end(_ outcome: Progress) {
    precondition(!hasEnded)
    progress = outcome
  }

  func fail(_ error: NVRAMError) { end(.failed(error)) }

  /// `nil` where it went well.
  var failure: NVRAMError? {
    if case .failed(let error) = progress { error } else { nil }
  }

  /// Takes a copy of what is to be written.
  func hold(_ bytes: Span<UInt8>) {
    reserve(bytes.count)
    buffer.copy(from: bytes)
  }

  /// Makes room in the buffer for `count` bytes.
  func reserve(_ count: Int) {
    if buffer.count < count { buffer = ByteBuffer(count: max(count, 512)) }
    self.count = count
  }

  private static let retained = 65536

  /// Ready for another use; what it held is wiped.
  func clear() {
    if buffer.count > Self.retained { buffer = ByteBuffer(count: 0) } else { buffer.wipe(0..<min(count, buffer.count)) }
    count = 0
    progress = .free
    operation = .barrier
    entry = nil
    deadline = nil
    completion = nil
    mayLead = false
  }
}
