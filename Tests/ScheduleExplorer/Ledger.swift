import VNVRAM

/// A request or a call that may end in more than one way, as the test saw it. Times are the ledger's ticks. Touched by
/// the thread whose turn it is.
final class Record: @unchecked Sendable {
  enum Kind: Equatable {
    case write(UInt32)
    case read
    case barrier
  }

  let number: Int
  let kind: Kind
  let entry: Int?
  let thread: Int
  /// Has a completion.
  let isAsynchronous: Bool
  /// Made on the thread that calls completions.
  let isTellers: Bool
  let called: Int
  let within: Duration?
  /// In nanoseconds of the schedule's clock: it ends by time not before this…
  let deadline: UInt64?
  /// … and not after this: while all threads wait, the time for it has begun.
  var latestDeadline: UInt64?
  /// The call that made it has returned.
  var accepted: Int?
  /// What its entry was registered as when it was made; `nil` where that can't be told.
  var registration: Registration?
  var id: NVRAMRequestID?
  /// The call has returned, or the completion was called.
  var ended: Int?
  /// The completion has returned.
  var told: Int?
  /// `.success`, or what it failed with.
  var outcome: Result<Void, NVRAMError>?
  /// What a read gave.
  var value: UInt32?
  /// It is a read of what was there when it was `called`, after a power cut then.
  var isOfCut = false
  /// `cancel` was called for it.
  var isToBeCancelled = false
  /// `cancel` said so.
  var wasCancelled: Bool?
  /// The most requests with completions, and the most memory held by them, while the call that made it went on; its own
  /// included.
  var peak = (count: 0, bytes: 0)
  /// What was made before that had been served when this was called.
  var servedBefore = 0

  init(
    _ number: Int, _ kind: Kind, entry: Int?, thread: Int, isAsynchronous: Bool, isTellers: Bool, called: Int,
    within: Duration?, at time: UInt64
  ) {
    (self.number, self.kind, self.entry, self.thread) = (number, kind, entry, thread)
    (self.isAsynchronous, self.isTellers) = (isAsynchronous, isTellers)
    (self.called, self.within) = (called, within)
    deadline = within.map { Instant(nanoseconds: time).advanced(by: $0).nanoseconds }
  }

  func isOverdue(at time: UInt64) -> Bool {
    if let latestDeadline { return latestDeadline <= time }
    latestDeadline = within.map { Instant(nanoseconds: time).advanced(by: $0).nanoseconds }
    return false
  }

  var code: NVRAMError.Code? {
    if case .failure(let error) = outcome { error.code } else { nil }
  }

  var hasSucceeded: Bool { if case .success = outcome { true } else { false } }

  /// It has had no effect, for sure.
  var hadNoEffect: Bool {
    switch code {
    case .fields, .notRegistered, .entryMissing, .entryTooSmall, .tooLarge, .queueFull, .timedOut, .cancelled, .closed,
      .notStarted, .failedEarlier, .wouldDeadlock:
      true
    default: false
    }
  }

  /// Memory that it holds, as NVRAM counts it.
  var held: Int {
    guard isAsynchronous, let entry else { return 0 }
    return Plan.sizes[entry] + (entry == Plan.visited ? 4 : 0)
  }

  var text: String {
    let what =
      switch kind {
      case .write(let value): "write \(value) of e\(entry ?? -1)"
      case .read: "read of e\(entry ?? -1)"
      case .barrier: "processRequests"
      }
    return "request \(number) (\(what))"
  }
}

/// All that happened in a schedule, and what must not have.
final class Ledger {
  private(set) var records: [Record] = []
  private var ticks = 0
  /// Requests with completions that were made, or are being made, and whose completion was not called yet.
  private var load = (count: 0, bytes: 0)
  private var inCall: [Record] = []
  /// When the last call began of those that have ended well: all requests that were made before it were served.
  private var servedUntil = 0

  func tick() -> Int {
    ticks += 1
    return ticks
  }

  func add(_ make: (_ number: Int, _ tick: Int) -> Record) -> Record {
    let record = make(records.count, tick())
    record.servedBefore = servedUntil
    records.append(record)
    inCall.append(record)
    if record.isAsynchronous {
      load = (load.count + 1, load.bytes + record.held)
      for other in inCall { other.peak = (max(other.peak.count, load.count), max(other.peak.bytes, load.bytes)) }
    }
    return record
  }

  /// The call has returned.
  func returned(_ record: Record) { inCall.removeAll { $0 === record } }

  /// The call has returned, or the completion is called.
  func end(_ record: Record, _ outcome: Result<Void, NVRAMError>) {
    record.outcome = outcome
    record.ended = tick()
    if record.isAsynchronous { load = (load.count - 1, load.bytes - record.held) }
    if record.hasSucceeded { servedUntil = max(servedUntil, record.called) }
  }

  // MARK: While it runs

  /// Requests that have been made and have not ended.
  var open: [Record] { records.filter { $0.ended == nil } }

  /// Requests whose completion is still to be called, and the memory that they hold.
  func outstanding(limit: Int) -> (count: Int, bytes: Int) {
    var count = 0
    var bytes = 0
    for record in records where record.isAsynchronous && record.accepted != nil && record.ended == nil {
      count += 1
      bytes += min(record.held, limit)
    }
    return (count, bytes)
  }

  /// A request with a completion that was made before `tick` and whose completion has not returned.
  func untold(before tick: Int, _ registration: Registration? = nil) -> Record? {
    records.first { record in
      guard record.isAsynchronous, record.told == nil, let accepted = record.accepted else { return false }
      return accepted < tick && (registration == nil || record.registration === registration)
    }
  }

  /// Whether so many requests may have waited to be served, at some time in the call that made this one.
  func mayHaveQueued(_ count: Int, besides record: Record) -> Bool {
    records.count { other in
      guard other !== record, other.ended.map({ $0 > record.called }) ?? true else { return false }
      return other.accepted.map { $0 > record.servedBefore || other.ended != nil } ?? true
    } >= count
  }

  // MARK: In the end

  /// What is wrong with it, now that all has ended.
  func check(_ facts: Facts) -> String? {
    for record in records {
      if record.outcome == nil { return "promise 1: \(record.text) never ended" }
      if record.wasCancelled == true, record.code != .cancelled {
        return "promise 9: cancel called \(record.text) off, and it ended \(Self.describe(record.outcome))"
      }
    }
    return checkOrder() ?? checkReads() ?? checkCancellations(facts)
  }

  static func describe(_ outcome: Result<Void, NVRAMError>?) -> String {
    switch outcome {
    case nil: "not at all"
    case .success: "well"
    case .failure(let error): "with \(error.code)"
    }
  }

  /// Promise 1: completions of one entry in the order in which the requests were made, where they were served.
  private func checkOrder() -> String? {
    let served = records.filter { $0.isAsynchronous && $0.hasSucceeded && $0.entry != nil }
    for entry in 0..<Plan.entries {
      var last: Record?
      // In the order of their completions.
      for record in served.filter({ $0.entry == entry }).sorted(by: { ($0.ended ?? 0) < ($1.ended ?? 0) }) {
        if let last, let accepted = record.accepted, accepted < last.called {
          return "promise 1: \(record.text) was made before \(last.text), and its completion was called after it"
        }
        if last.map({ record.called > $0.called }) ?? true { last = record }
      }
    }
    return nil
  }

  /// Promises 2 and 9: what reads gave. A write comes before another if its making had returned when the other's began.
  private func checkReads() -> String? {
    var writes: [UInt32: Record] = [:]
    for record in records {
      if case .write(let value) = record.kind { writes[value] = record }
    }
    for read in records where read.kind == .read && read.hasSucceeded {
      guard let value = read.value, let end = read.ended else { continue }
      let write = writes[value]
      if value != 0 {
        guard let write, write.entry == read.entry else { return "\(read.text) gave \(value), which is no write of it" }
        if write.hadNoEffect {
          return "promise 9: \(read.text) gave \(value), which ended \(Self.describe(write.outcome))"
        }
        if write.called > end { return "\(read.text) gave \(value), which was written later" }
        if let accepted = read.accepted, read.isAsynchronous, write.called > accepted {
          return "promise 1: \(read.text) gave \(value), which was asked for after it"
        }
      }
      for later in records where later.entry == read.entry && later.hasSucceeded && later !== write {
        // What was found after a power cut is what had been acknowledged, and not what had only been asked for.
        let made = read.isOfCut ? later.ended : later.accepted
        guard case .write(let other) = later.kind, let made, made < read.called else { continue }
        if value == 0 || (write?.accepted).map({ $0 < later.called }) ?? false {
          return "promise 2: \(read.text) gave \(value), and \(other) was written before it was asked for"
        }
      }
    }
    return nil
  }

  private func checkCancellations(_ facts: Facts) -> String? {
    let cancelled = records.count { $0.code == .cancelled }
    // A call that was no longer waiting for it.
    let unseen = records.count { $0.kind == .barrier && $0.code == .timedOut }
    if cancelled + unseen < facts.cancelled || cancelled > facts.cancelled && !facts.wasDeregistered {
      return "promise 9: \(facts.cancelled) requests were called off, and \(cancelled) ended so"
    }
    return nil
  }
}
