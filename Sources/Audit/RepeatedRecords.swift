// Runs of equal records, so that asking for a key again and again doesn't fill a disk with synced lines.
//
// Invariants: what begins a run is on disk when `record` returns, so before whatever it announces; what was counted and
// not written is written, as one `repeated`, before anything else is recorded of the same topic, by `end`, and after
// `longest` at the latest, if it goes on.
import Primitives
import Synchronization

/// Writes the first of a run of equal records, and of the others how many there were. Any thread may use it.
///
/// Only for what leads to no use of a key: where one is found and used, its records go to the log themselves.
public final class RepeatedRecords: Sendable {
  public let log: AuditLog
  private let longest: Duration
  private let runs = Mutex<[String: Run]>([:])

  private struct Run {
    let records: [AuditRecord]
    /// How many have not been written.
    var count = 0
    /// When something was written last.
    var written = ContinuousClock.now
  }

  /// Topics of which runs are remembered; one more ends them all.
  private static let limit = 64

  /// - Parameter longest: after how long a run is written, and counted anew, though it goes on.
  public init(_ log: AuditLog, longest: Duration = .seconds(600)) {
    self.log = log
    self.longest = longest
  }

  deinit { try? endAll() }

  /// Writes these records, or counts them, where they are the same as last time. Equal in every respect: store, key,
  /// slot, serial number, event, status and detail.
  ///
  /// - Parameter topic: what they tell of; a run is of one topic.
  /// - Returns: whether they were written.
  /// - Throws: where they could not be: don't use the key.
  @discardableResult
  public func record(_ records: [AuditRecord], of topic: String) throws(AuditError) -> Bool {
    try locked { (runs) throws(AuditError) in
      if var run = runs[topic], run.records == records {
        run.count += 1
        runs[topic] = run
        if ContinuousClock.now - run.written >= longest { try write(&runs, topic) }
        return false
      }
      try end(&runs, topic)
      if runs.count >= Self.limit { try endAll(&runs) }
      try log.record(records)
      runs[topic] = Run(records: records)
      return true
    }
  }

  /// Ends the run of a topic: what comes next is written, equal or not.
  public func end(_ topic: String) throws(AuditError) {
    try locked { (runs) throws(AuditError) in try end(&runs, topic) }
  }

  /// Ends all runs.
  public func endAll() throws(AuditError) {
    try locked { (runs) throws(AuditError) in try endAll(&runs) }
  }

  // MARK: With the lock

  private func locked<R: Sendable>(
    _ body: (inout sending [String: Run]) throws(AuditError) -> R
  ) throws(AuditError) -> R {
    try runs.withLock { (runs) throws(AuditError) in try body(&runs) }
  }

  private func endAll(_ runs: inout [String: Run]) throws(AuditError) {
    for topic in runs.keys.sorted() { try end(&runs, topic) }
  }

  private func end(_ runs: inout [String: Run], _ topic: String) throws(AuditError) {
    try write(&runs, topic)
    runs[topic] = nil
  }

  /// Writes how often it was, if it was. What can't be written stays counted.
  private func write(_ runs: inout [String: Run], _ topic: String) throws(AuditError) {
    guard var run = runs[topic], run.count > 0, var record = run.records.last else { return }
    let events = run.records.map(\.event.rawValue).joined(separator: ", ")
    (record.event, record.count) = (.repeated, run.count)
    record.detail = "as recorded before: \(events)"
    try log.record(record)
    run.count = 0
    run.written = .now
    runs[topic] = run
  }
}
