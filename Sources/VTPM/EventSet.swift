import CSystem
import Glibc

/// The descriptors that the server waits for: epoll(7), level-triggered. The kernel is told of one when it comes, and
/// when what it is waited for changes, and not before each wait.
public final class EventSet {
  fileprivate let descriptor: Int32

  /// What is waited for.
  enum Events: UInt32 {
    /// That something can be read, or that the other end hung up: EPOLLIN.
    case input = 0x1
    case output = 0x4
    /// That the other end hung up, and no more: EPOLLRDHUP. What it sent before stays in the kernel.
    case leaving = 0x2000
  }

  /// Throws where the process may have no more descriptors.
  public init() throws(TPMError) {
    descriptor = csystem_event_set()
    guard descriptor >= 0 else { throw .socket(operation: "epoll_create", address: "its own events", errno: errno) }
  }

  deinit { close(descriptor) }

  /// The places at which something happened, a bit each; nil for an error.
  ///
  /// - Parameter timeout: milliseconds; -1 for ever.
  func wait(_ timeout: Int32) -> UInt32? {
    var places: UInt32 = 0
    return unsafe csystem_wait(descriptor, timeout, &places) == 0 ? places : nil
  }
}

/// What a set knows of a descriptor, to be kept with that. Whoever closes it ends this first: another process may have
/// the same socket, and then the kernel would go on reporting it.
struct EventRegistration {
  private var set: EventSet?
  private var events: UInt32 = 0

  /// Returns false where the kernel can't: it has no memory for it, or it is a file, of which nothing is ever told.
  ///
  /// - Parameter events: nil to wait for nothing.
  @discardableResult
  mutating func wait(for events: EventSet.Events?, of descriptor: Int32, at place: Int, in set: EventSet) -> Bool {
    let wanted = events?.rawValue ?? 0
    guard wanted != self.events, descriptor >= 0 else { return true }
    guard csystem_watch(set.descriptor, descriptor, self.events, wanted, UInt32(place)) == 0 else { return false }
    (self.set, self.events) = (set, wanted)
    return true
  }

  mutating func end(of descriptor: Int32) {
    guard let set, events != 0, descriptor >= 0 else { return }
    csystem_watch(set.descriptor, descriptor, events, 0, 0)
    events = 0
  }
}
