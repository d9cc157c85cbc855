import BlobStore
import Primitives

/// Names a request that waits, for calling it off.
public struct NVRAMRequestID: Hashable, Sendable {
  let number: UInt64
}

/// One request. It belongs to who serves it from when it is taken from the queue until it has ended; before and after
/// that to the machine, and once it was told to who made it.
package final class Request: @unchecked Sendable {
  package enum Operation: Sendable {
    /// What the request has to write, at an offset, or in place of the whole content.
    case write(at: UInt64)
    case replace
    /// Up to `count` bytes into `buffer`, or as many as the caller has room for.
    case read(at: UInt64)
    /// All of the content, however much it is, into a new buffer.
    case readAll
    /// Nothing: it marks a place in the order.
    case barrier
  }

  enum Phase {
    case made
    case queued
    case served
    /// It was served, and all that ended before is told first.
    case telling
    case ended
  }

  package enum Outcome: Sendable {
    case none
    /// In the commit that is being put together.
    case staged
    case done
    case failed(NVRAMError)
  }

  package init() {}

  init(_ operation: Operation, lent: LentBytes? = nil) {
    self.operation = operation
    self.lent = lent
    count = lent?.count ?? 0
  }

  var number: UInt64 = 0
  var phase = Phase.made
  var deadline: Instant?
  /// Where who made it waits for it.
  var parker: Parker?
  /// The teller made it.
  var isTellers = false
  /// It ends only when all that ended before was told.
  var isTold = false
  /// For who doesn't wait. Called once, without the lock.
  var completion: (@Sendable (Request) -> Void)?
  /// Bytes that count towards `NVRAMConfiguration.maximumRequestBytes`.
  var held = 0

  package var operation = Operation.barrier
  package var entry: RegisteredEntry?
  package private(set) var outcome = Outcome.none
  /// What is written, or what was read, unless the caller lent its own bytes.
  package var buffer = ByteBuffer(count: 0)
  package var count = 0
  var lent: LentBytes?

  /// How many bytes serving it moves, at most.
  var size: Int {
    if case .readAll = operation { Int(clamping: entry?.capacity ?? 0) } else { count }
  }

  /// Whether its time to be served is over.
  func isOver(_ now: Instant) -> Bool { deadline.map { $0 <= now } ?? false }

  /// A write that somebody waits for.
  var isWaitingWrite: Bool {
    switch operation {
    case .write, .replace: parker != nil
    case .read, .readAll, .barrier: false
    }
  }

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

  var result: Result<Void, NVRAMError> { failure.map { .failure($0) } ?? .success(()) }

  /// Takes a copy of what is to be written.
  package func hold(_ bytes: Span<UInt8>) {
    reserve(bytes.count)
    buffer.copy(from: bytes)
  }

  /// Makes room in the buffer for `count` bytes.
  package func reserve(_ count: Int) {
    buffer = ByteBuffer(count: count)
    self.count = count
  }

  /// What is to be written.
  func withSource<E: Error>(_ body: (Span<UInt8>) throws(E) -> Void) throws(E) {
    if let lent { return try lent.withSpan(body) }
    try buffer.lend(0..<count, to: body)
  }

  /// Where what is read is to be.
  func withDestination<E: Error>(_ body: (consuming MutableSpan<UInt8>) throws(E) -> Int) throws(E) {
    if let lent {
      count = try lent.withMutableSpan(body)
    } else {
      count = try body(buffer.mutableSpan(0..<count))
    }
  }

  /// What was read; the request has it no more.
  func takeContent() -> ReadContent {
    var taken = ByteBuffer(count: 0)
    swap(&taken, &buffer)
    defer { count = 0 }
    return ReadContent(buffer: taken, count: count)
  }
}

/// An entry's content.
struct ReadContent: ~Copyable {
  let buffer: ByteBuffer
  let count: Int

  var array: [UInt8] { buffer.span(0..<count).array }
}

extension ByteBuffer {
  fileprivate func lend<E: Error>(_ range: Range<Int>, to body: (Span<UInt8>) throws(E) -> Void) throws(E) {
    try body(span(range))
  }
}
