import CSystem
import Glibc
import Primitives

/// One end of a channel of messages between monitor and worker: a Unix socket of the kind that keeps messages apart.
///
/// There are two: on one the worker asks and the monitor answers, one request at a time; on the other the monitor
/// tells. Neither end ever waits for the other to read.
final class Link {
  /// -1 once it was hung up.
  private(set) var descriptor: Int32
  private var buffer = MessageBuffer()

  init(adopting descriptor: Int32) { self.descriptor = descriptor }

  deinit { hangUp() }

  /// Closes this end: the other one is told that it is alone.
  func hangUp() {
    if descriptor >= 0 { close(descriptor) }
    descriptor = -1
  }

  /// Both ends' descriptors. A `Link` has memory for keys, which a process that is yet to be forked must not have.
  struct Pair {
    let one: Int32
    let other: Int32

    init() throws(LinkError) {
      var ends: [Int32] = [-1, -1]
      guard unsafe csystem_message_pair(&ends) == 0 else { throw LinkError(errno: errno, "making a socket pair") }
      (one, other) = (ends[0], ends[1])
    }

    /// Goes on with one end, and closes the other.
    func adopt() -> Link {
      close(other)
      return Link(adopting: one)
    }
  }

  /// Sends what `build` puts into the message.
  func send(_ kind: UInt8, descriptor passed: Int32 = -1, _ build: (inout MessageBuffer) -> Void) throws(LinkError) {
    buffer.begin(kind)
    build(&buffer)
    try buffer.send(descriptor, descriptor: passed)
  }

  /// Takes the next message apart, if there is one: nil where there is none.
  ///
  /// - Parameter take: gets the kind, and a descriptor or -1, which is its own.
  /// - Throws: also where the other end is gone.
  func receive<R: ~Copyable>(
    _ take: (_ kind: UInt8, _ descriptor: Int32, inout MessageBuffer) throws(LinkError) -> R
  ) throws(LinkError) -> R? {
    switch try buffer.receive(descriptor) {
    case .nothing: return nil
    case .hungUp: throw .hangUp
    case .message(let passed):
      do throws(LinkError) {
        let kind = try buffer.take(UInt8.self)
        let result = try take(kind, passed, &buffer)
        try buffer.finish()
        return result
      } catch {
        buffer.wipe()
        throw error
      }
    }
  }

  /// As `receive`, and waits.
  func await<R: ~Copyable>(
    _ take: (_ kind: UInt8, _ descriptor: Int32, inout MessageBuffer) throws(LinkError) -> R
  ) throws(LinkError) -> R {
    while true {
      if let result = try receive(take) { return result }
      var place = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
      guard unsafe poll(&place, 1, -1) >= 0 || errno == EINTR else { throw LinkError(errno: errno, "poll") }
    }
  }
}
