/// The system calls that a test can make fail or fall short: what a healthy machine does not show on request.
enum SystemCall: Equatable {
  case read, write, sync, allocate
}

/// What becomes of a system call in a test.
enum SystemCallFault {
  /// Not made; reports this errno.
  case fails(Int32)
  /// Made with no more than this many bytes. Without meaning for `sync` and `allocate`.
  case short(Int)
}

/// Asked before each call of a device. `nil`, as everywhere but in tests, costs one comparison a call.
typealias SystemCallHook = (SystemCall) -> SystemCallFault?
