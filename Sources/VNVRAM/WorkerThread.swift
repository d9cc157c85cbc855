import Glibc

/// A thread that runs one closure and is waited for. It inherits the keyrings of the thread that makes it.
@safe final class WorkerThread: @unchecked Sendable {
  private var thread: pthread_t

  /// Throws errno where the system has no more threads.
  init(_ body: @escaping @Sendable () -> Void) throws(Failure) {
    thread = pthread_t()
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
  }

  struct Failure: Error {
    let errno: Int32
  }

  /// Whether the caller runs on this thread.
  var isCurrent: Bool { pthread_equal(thread, pthread_self()) != 0 }

  /// Waits until the closure has returned; to be called once, by another thread.
  func join() { pthread_join(thread, nil) }

  /// Lets the thread end by itself, in place of `join`.
  func detach() { pthread_detach(thread) }

  private final class Box {
    let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
  }
}
