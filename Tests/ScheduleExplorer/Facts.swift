import VNVRAM

/// What happened so far that outcomes depend on. Times are the ledger's ticks.
struct Facts {
  var plan: Plan
  /// A write or a sync failed.
  var hasFailed = false
  /// The store may have waited for a key.
  var mayWaitForKey: Bool
  /// `close` was called.
  var wasClosed = false
  /// When `start` had succeeded.
  var started: Int?
  /// How many requests `cancel` and `cancelAll` said that they called off.
  var cancelled = 0
  var cancellingAll = Calls()
  /// By entry.
  var deregistering = [Calls](repeating: Calls(), count: Plan.entries)
  /// Since when the entry is registered for sure.
  var registered = [Int?](repeating: nil, count: Plan.entries)

  /// Calls of one kind.
  struct Calls {
    var begun = 0
    private var returned = 0
    private var lastReturn = -1

    mutating func end(_ tick: Int) { (returned, lastReturn) = (returned + 1, tick) }
    /// One goes on, or did after that.
    func wereThere(since tick: Int) -> Bool { begun > returned || lastReturn > tick }
  }

  init(_ plan: Plan) {
    self.plan = plan
    mayWaitForKey = plan.form != .plain && plan.startsWithoutKey
  }

  var wasDeregistered: Bool { deregistering.contains { $0.begun > 0 } }

  /// `nil` where something explains how the request ended just now.
  func objection(to record: Record, _ ledger: Ledger) -> String? {
    guard case .failure(let error) = record.outcome else { return nil }
    let isAllowed =
      switch error.code {
      case .closed: wasClosed
      case .timedOut: record.deadline != nil
      case .cancelled:
        record.isToBeCancelled || cancellingAll.wereThere(since: record.called)
          || record.entry.map { deregistering[$0].wereThere(since: record.called) } ?? false
      case .notRegistered: record.entry.map { registered[$0].map { $0 > record.called } ?? true } ?? false
      case .notStarted: started.map { $0 > record.called } ?? true
      case .wouldDeadlock:
        record.isTellers && !(record.isAsynchronous && record.kind != .barrier) && mayWaitForKey
      case .failedEarlier, .device, .volume, .blobs: hasFailed
      case .fields: refuses(record)
      case .queueFull: isFull(record, ledger)
      default: false
      }
    return isAllowed ? nil : "nothing explains how \(record.text) ended (\(error))"
  }

  private func refuses(_ record: Record) -> Bool {
    guard plan.callbackFailsOneIn > 0, record.entry == Plan.visited else { return false }
    guard case .write(let value) = record.kind else { return true }
    return value % UInt32(plan.callbackFailsOneIn) == 0
  }

  /// No bound refuses `processRequests`, and that of bytes no call that waits.
  private func isFull(_ record: Record, _ ledger: Ledger) -> Bool {
    if record.isAsynchronous {
      return record.peak.count > plan.maximumRequests || record.peak.bytes > plan.maximumRequestBytes
    }
    return record.kind != .barrier && ledger.mayHaveQueued(plan.maximumRequests, besides: record)
  }
}
