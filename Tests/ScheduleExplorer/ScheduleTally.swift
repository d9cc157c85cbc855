/// How often what happened. What never happened in a hundred thousand schedules was not tested.
public struct ScheduleTally: Sendable {
  public var requests = 0
  public var successes = 0
  public var locks = 0
  public var keysLost = 0
  public var cancels = 0
  public var deregistrations = 0
  /// Images that were opened as a power cut left them.
  public var powerCuts = 0
  /// Checkpoints, by upkeep, of stores whose keys the caller has.
  public var checkpoints = 0
  /// Steps, and batches served, between when a lost key ought to be looked at and the store's locking.
  public var longestLoss = 0
  public var mostBatches = 0
  /// All threads waited for a time.
  public var idle = 0
  /// Requests by how they failed.
  public var failures: [String: Int] = [:]

  mutating func note(_ ledger: Ledger) {
    for record in ledger.records {
      requests += 1
      if let code = record.code {
        var name = "\(code)"
        if let end = name.firstIndex(of: "(") { name = String(name[..<end]) }
        failures[name, default: 0] += 1
      } else {
        successes += 1
      }
    }
  }

  mutating func add(_ other: ScheduleTally) {
    requests += other.requests
    successes += other.successes
    locks += other.locks
    keysLost += other.keysLost
    cancels += other.cancels
    deregistrations += other.deregistrations
    powerCuts += other.powerCuts
    checkpoints += other.checkpoints
    longestLoss = max(longestLoss, other.longestLoss)
    mostBatches = max(mostBatches, other.mostBatches)
    idle += other.idle
    failures.merge(other.failures, uniquingKeysWith: +)
  }

  public var report: String {
    let failures = failures.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
    return """
      requests  \(requests), \(successes) of them well; \(failures)
      events    locks \(locks), lost keys noticed \(keysLost), calls called off \(cancels), \
      deregistrations \(deregistrations), power cuts \(powerCuts), checkpoints \(checkpoints), idle \(idle)
      locked    at most \(longestLoss) steps and \(mostBatches) batches after a lost key was to be looked at
      """
  }
}
