import Glibc

/// The system's threads.
package enum SystemThread {
  /// The system has no more threads.
  package struct Failure: Error {
    let errno: Int32

    package init(errno: Int32) { self.errno = errno }
  }

  static var current: Threads.ID { pthread_self() }

  static func start(_ body: @escaping @Sendable () -> Void) throws(Failure) -> Threads.ID {
    var thread = pthread_t()
    let box = unsafe Unmanaged.passRetained(Box(body)).toOpaque()
    let code = unsafe pthread_create(
      &thread, nil,
      { argument in
        guard let argument = unsafe argument else { return nil }
        unsafe Unmanaged<Box>.fromOpaque(argument).takeRetainedValue().body()
        return nil
      }, box)
    guard code == 0 else {
      unsafe Unmanaged<Box>.fromOpaque(box).release()
      throw Failure(errno: code)
    }
    return thread
  }

  static func join(_ thread: Threads.ID) { pthread_join(thread, nil) }
  static func detach(_ thread: Threads.ID) { pthread_detach(thread) }

  private final class Box {
    let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
  }
}
