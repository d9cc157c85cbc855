/// Lines that a guest, or whoever reaches a socket, can have written as often as it likes: of each kind at most one in
/// 10 s, which says how many there were besides.
struct LimitedLog {
  enum Kind: Int, CaseIterable {
    case size
    case incomplete
    case left
    case slow
    case libtpms
    case locality
    case unheard
  }

  static let interval = 10_000

  private let log: Log
  private var last = [Int?](repeating: nil, count: Kind.allCases.count)
  private var dropped = [Int](repeating: 0, count: Kind.allCases.count)

  init(_ log: Log) { self.log = log }

  /// What its caller limits.
  func write(_ message: String) { log.line(message) }

  mutating func line(_ kind: Kind, _ message: @autoclosure () -> String, now: Int = Clock.now()) {
    let kind = kind.rawValue
    if let last = last[kind], now < last + Self.interval {
      dropped[kind] += 1
      return
    }
    log.line(dropped[kind] == 0 ? message() : "\(message()) (and \(dropped[kind]) more of the kind)")
    (last[kind], dropped[kind]) = (now, 0)
  }
}
