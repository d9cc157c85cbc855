import CSystem
import Glibc

/// What a program that handles keys does before anything else.
public enum ProcessSetup {
  /// No core dumps, no backtraces and no tracing; files it makes are their owner's alone; and writing to a closed pipe,
  /// or past the limit on file sizes, is an error to be reported and not the program's end.
  public static func run() {
    holdStandardStreams()
    // Swift's runtime may answer a crash with a program that prints registers and memory, which may hold keys.
    for crash in [SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV] { signal(crash, SIG_DFL) }
    _ = csystem_forbid_dumps()
    signal(SIGPIPE, SIG_IGN)
    signal(SIGXFSZ, SIG_IGN)
    umask(0o077)
  }

  /// Were one of them closed, the next file to be opened would take its number, and messages would go into an image.
  /// What is put in their place can't be read or written, so that who tries is told.
  private static func holdStandardStreams() {
    for descriptor in Int32(0)...2 where fcntl(descriptor, F_GETFD) < 0 {
      _ = unsafe open("/dev/null", descriptor == 0 ? O_WRONLY : O_RDONLY)
    }
  }

  /// Whether the program was started with this descriptor. To be asked before it opens anything itself.
  public static func isOpen(_ descriptor: Int32) -> Bool { descriptor >= 0 && fcntl(descriptor, F_GETFD) >= 0 }
}
