import Primitives

/// Requests that wait to be served, in their order.
struct RequestQueue: Sendable {
  private var requests = Fifo<Request>()
  /// How many threads wait for requests of theirs.
  private(set) var waiting = 0
  /// How many have a deadline.
  private var dated = 0

  /// A batch has no more requests than this.
  static let batchLimit = 256
  /// And no more bytes, but for its first request.
  static let batchBytes = 1 << 20

  var count: Int { requests.count }
  var isEmpty: Bool { requests.isEmpty }

  mutating func append(_ request: Request) {
    request.phase = .queued
    requests.append(request)
    note(request, 1)
  }

  /// The next requests, to be served together. Those whose time is over are put into `expired` instead.
  mutating func takeBatch(now: Instant, _ expired: inout [Request]) -> [Request] {
    var (batch, bytes): ([Request], Int) = ([], 0)
    batch.reserveCapacity(min(count, Self.batchLimit))
    while batch.count < Self.batchLimit, let next = requests.first {
      guard !next.isOver(now) else {
        expired.append(next)
        drop(next)
        continue
      }
      bytes += next.size
      guard batch.isEmpty || bytes <= Self.batchBytes else { break }
      next.phase = .served
      batch.append(next)
      drop(next)
    }
    return batch
  }

  private mutating func drop(_ first: Request) {
    _ = requests.popFirst()
    note(first, -1)
  }

  /// Takes out those that satisfy a condition, in order.
  mutating func take(where isMeant: (Request) -> Bool) -> [Request] {
    let taken = requests.take(where: isMeant)
    for request in taken { note(request, -1) }
    return taken
  }

  /// The place of the first thread that waits for its request.
  var firstParker: Parker? { waiting == 0 ? nil : requests.first { $0.parker != nil }?.parker }

  /// The earliest deadline of those that nobody waits for: who waits looks at the clock by itself.
  var earliestDeadline: Instant? {
    guard dated > 0 else { return nil }
    var earliest: Instant?
    _ = requests.first { request in
      if request.parker == nil, let deadline = request.deadline { earliest = min(deadline, earliest ?? deadline) }
      return false
    }
    return earliest
  }

  private mutating func note(_ request: Request, _ change: Int) {
    if request.parker != nil { waiting += change }
    if request.deadline != nil { dated += change }
  }
}
