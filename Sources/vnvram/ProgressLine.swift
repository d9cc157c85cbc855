import ProgramIO

/// How far something is, on standard error where that is a terminal; nothing in the first half second, and not more
/// often than ten times a second. (A class here is released once too often by Swift 6.3.1's optimiser.)
struct ProgressLine: ~Copyable {
  private let label: String
  private let total: UInt64?
  private let isShown: Bool
  private let started = WallClock.monotonic
  private var last = 0.0
  private var isVisible = false

  /// - Parameter total: in bytes; `nil` where it isn't known.
  init(_ label: String, total: UInt64?, json: Bool) {
    self.label = label
    self.total = total
    isShown = !json && Terminal.isTerminal(2)
  }

  deinit { if isVisible { put("\r\u{1B}[K") } }

  mutating func update(_ done: UInt64) {
    guard isShown else { return }
    let now = WallClock.monotonic
    guard now - started > 0.5, now - last > 0.1 else { return }
    last = now
    isVisible = true
    let amount = total.map { "\($0 == 0 ? 100 : done * 100 / $0) % of \($0 >> 20) MiB" } ?? "\(done >> 20) MiB"
    put("\r\(label): \(amount)\u{1B}[K")
  }

  private func put(_ text: String) {
    try? OutputFile(descriptor: 2, name: "standard error").write(text)
  }
}
