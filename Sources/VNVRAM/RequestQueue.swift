import BlobStore
import Primitives

/// Requests that wait, in their order, bounded in number and bytes.
struct RequestQueue {
  private var requests: [Request] = []
  /// Of `requests`, those before this have been taken.
  private var first = 0
  private(set) var bytes = 0
  let maximumCount: Int
  let maximumBytes: Int

  init(maximumCount: Int, maximumBytes: Int) {
    self.maximumCount = maximumCount
    self.maximumBytes = maximumBytes
  }

  var count: Int { requests.count - first }
  var isEmpty: Bool { first == requests.count }

  /// Whether a request with so many bytes may wait too.
  func hasRoom(for count: Int) -> Bool { self.count < maximumCount && count <= maximumBytes - bytes }

  mutating func append(_ request: Request) {
    request.phase = .queued
    bytes += request.count
    requests.append(request)
  }

  /// The next request.
  mutating func takeFirst() -> Request? {
    guard first < requests.count else { return nil }
    let request = requests[first]
    first += 1
    bytes -= request.count
    // Room is given back when all are taken, or when most of it is of no use: without an allocation in the common case.
    if first == requests.count {
      requests.removeAll(keepingCapacity: requests.capacity <= 4096)
      first = 0
    } else if first >= 1024 {
      requests.removeFirst(first)
      first = 0
    }
    return request
  }

  var last: Request? { requests.last }

  /// Takes out those that satisfy a condition, in order.
  mutating func take(where isWanted: (Request) -> Bool) -> [Request] {
    guard requests[first...].contains(where: isWanted) else { return [] }
    let taken = requests[first...].filter(isWanted)
    requests = requests[first...].filter { !isWanted($0) }
    first = 0
    for request in taken { bytes -= request.count }
    return Array(taken)
  }

  /// The first one that someone waits for.
  var firstWithWaiter: Request? { requests[first...].first { $0.completion == nil } }

  /// The earliest deadline of those that nobody waits for: who waits looks at the clock by itself.
  var earliestDeadline: Instant? {
    requests[first...].lazy.filter { $0.completion != nil }.compactMap(\.deadline).min()
  }
}
