import Glibc

/// The descriptors that are polled, each with its place. Only such as are open: poll(2) refuses more than the process may
/// have, though they are -1.
struct PollSet {
  private var descriptors = [pollfd](repeating: pollfd(fd: -1, events: 0, revents: 0), count: PollPlace.count)
  private var places = [Int](repeating: 0, count: PollPlace.count)
  private(set) var count = 0

  mutating func removeAll() { count = 0 }

  /// Adds one, if it is open.
  mutating func add(_ place: Int, _ descriptor: Int32, _ events: Int16) {
    guard descriptor >= 0 else { return }
    descriptors[count] = pollfd(fd: descriptor, events: events, revents: 0)
    places[count] = place
    count += 1
  }

  /// What poll(2) returns.
  mutating func wait(_ timeout: Int32) -> Int32 { unsafe poll(&descriptors, nfds_t(count), timeout) }

  func place(_ index: Int) -> Int { places[index] }
  /// Something happened there.
  func isReported(_ index: Int) -> Bool { descriptors[index].revents != 0 }
}
