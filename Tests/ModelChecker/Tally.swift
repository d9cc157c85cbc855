// What was done, for the report: counted by every seed and added up.

/// Figures of a run.
public struct Tally: Sendable {
  /// Crashed or damaged copies that were opened, recovered and compared with the model.
  public var states: Int { statesByUnit.values.reduce(0, +) }
  /// By the unit of the disk.
  public private(set) var statesByUnit: [Int: Int] = [:]
  /// Seeds.
  public private(set) var workloads = 0
  public private(set) var stores = 0
  public private(set) var steps: [String: Int] = [:]
  public private(set) var faults: [String: Int] = [:]
  /// Legitimate ones, by what was done to the image and the status that told of it.
  public private(set) var refusals: [String: Int] = [:]
  public private(set) var violations: [Violation.Kind: Int] = [:]

  public init() {}

  mutating func countState(unit: Int) { statesByUnit[unit, default: 0] += 1 }
  mutating func countWorkload() { workloads += 1 }
  mutating func countStore() { stores += 1 }
  mutating func count(step: String) { steps[step, default: 0] += 1 }
  mutating func count(fault: String, by number: Int = 1) { faults[fault, default: 0] += number }
  mutating func count(refusal: String) { refusals[refusal, default: 0] += 1 }
  mutating func count(_ violation: Violation) { violations[violation.kind, default: 0] += 1 }

  public mutating func add(_ other: Tally) {
    statesByUnit.merge(other.statesByUnit, uniquingKeysWith: +)
    workloads += other.workloads
    stores += other.stores
    steps.merge(other.steps, uniquingKeysWith: +)
    faults.merge(other.faults, uniquingKeysWith: +)
    refusals.merge(other.refusals, uniquingKeysWith: +)
    violations.merge(other.violations, uniquingKeysWith: +)
  }

  /// Lines for people.
  public var report: String {
    var lines = ["states    \(states) recovered and compared, of \(stores) stores in \(workloads) workloads"]
    func list(_ title: String, _ counts: [String: Int]) {
      for (i, name) in counts.keys.sorted().enumerated() {
        let start = i == 0 ? title : ""
        let padding = String(repeating: " ", count: max(0, 10 - start.count))
        lines.append("\(start)\(padding)\(counts[name] ?? 0) \(name)")
      }
    }
    for unit in statesByUnit.keys.sorted() {
      lines.append("          \(statesByUnit[unit] ?? 0) of them on disks with units of \(unit / 1024) KiB")
    }
    list("steps", steps)
    list("faults", faults)
    list("refused", refusals)
    for kind in Violation.Kind.allCases {
      let padding = String(repeating: " ", count: 16 - kind.rawValue.count)
      lines.append("\(kind.rawValue)\(padding)\(violations[kind] ?? 0)")
    }
    return lines.joined(separator: "\n")
  }
}
