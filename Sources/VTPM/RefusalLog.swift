/// Why clients of the control channel are refused: each reason once in 10 s, and no more than so many reasons in that
/// time, since whoever reaches the socket may be refused as often as it likes.
struct RefusalLog {
  static let interval = 10_000
  static let most = 32

  private let log: Log
  /// When each was said last.
  private var said: [String: Int] = [:]
  private var dropped = 0

  init(_ log: Log) { self.log = log }

  mutating func line(_ message: String, now: Int = Clock.now()) {
    if let last = said[message], now < last + Self.interval {
      dropped += 1
      return
    }
    if said.count >= Self.most { said = said.filter { now < $0.value + Self.interval } }
    guard said.count < Self.most else {
      dropped += 1
      return
    }
    said[message] = now
    log.line(dropped == 0 ? message : "\(message) (and \(dropped) refusals like those before)")
    dropped = 0
  }
}
