import Glibc

/// Nanoseconds of the monotonic clock.
func now() -> UInt64 {
  var time = timespec()
  unsafe clock_gettime(CLOCK_MONOTONIC, &time)
  return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

/// How long `body` took, in nanoseconds.
func timed(_ body: () throws -> Void) rethrows -> UInt64 {
  let start = now()
  try body()
  return now() - start
}

/// Median, mean and 99th percentile of a sample, in microseconds.
struct Sample {
  private var values: [UInt64]

  /// - Parameter values: in nanoseconds.
  init(_ values: some Sequence<UInt64> = []) { self.values = Array(values) }

  var count: Int { values.count }
  mutating func add(_ nanoseconds: UInt64) { values.append(nanoseconds) }

  func percentile(_ fraction: Double) -> Double {
    let sorted = values.sorted()
    guard !sorted.isEmpty else { return 0 }
    return Double(sorted[min(sorted.count - 1, Int(Double(sorted.count) * fraction))]) / 1000
  }
  var median: Double { percentile(0.5) }
  var mean: Double { values.isEmpty ? 0 : Double(values.reduce(0, +)) / Double(values.count) / 1000 }
  var text: String { "\(Table.number(median)) (p99 \(Table.number(percentile(0.99))))" }
}

/// Rows for people: what, measured, against what, ratio, and what was asked, unless it has other columns.
struct Table {
  private var rows: [[String]]

  init(_ columns: [String] = ["what", "here", "against", "ratio", "asked"]) { rows = [columns] }

  /// A row of other columns.
  mutating func add(row: [String]) { rows.append(row) }

  mutating func add(
    _ what: String, _ here: String, _ against: String = "", _ ratio: Double? = nil, _ asked: String = ""
  ) {
    rows.append([what, here, against, ratio.map { Self.number($0) } ?? "", asked])
  }

  /// Two samples in microseconds, and the ratios of their medians and of their 99th percentiles.
  mutating func add(_ what: String, _ here: Sample, _ name: String, _ against: Sample, _ asked: String) {
    let (median, slow) = (here.median / against.median, here.percentile(0.99) / against.percentile(0.99))
    rows.append([
      what, here.text, "\(name): \(against.text)", "\(Self.number(median)) (p99 \(Self.number(slow)))", asked,
    ])
  }

  func printAll() {
    let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
    for row in rows {
      print(
        zip(row, widths).map { $0 + String(repeating: " ", count: $1 - $0.count) }.joined(separator: "  "))
    }
    print()
  }

  static func number(_ value: Double) -> String {
    let digits = value < 10 ? 100.0 : value < 100 ? 10.0 : 1.0
    return "\((value * digits).rounded() / digits)"
  }
}
