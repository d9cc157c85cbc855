// Which system calls each kind of process may make, and with which arguments. SECURITY.md has the same list, with why
// each call is needed and what is left of it; a test holds the two together.
//
// Invariant: what a rule allows acts on what the process has already: its memory, threads and descriptors. Exceptions
// are the monitor's alone, and each has a condition or is landlock's to refuse.
import Glibc

/// The rules of a filter.
struct SystemCallProfile: Sendable {
  /// What is allowed only where somebody asks for it. The words of `Confinement`.
  struct Extras: Sendable {
    var mayConnect = false
    var mayAskDevices = false
    var mayAllocate = false
    var mayRequestKeys = false
    /// The one other process that may be signalled.
    var worker: pid_t?
  }

  let rules: [SystemCallRule]

  init(_ role: Confinement.Role, _ extras: Extras = Extras()) {
    let own: [SystemCallRule] =
      switch role {
      case .worker: Self.serving + Self.pathsDenied
      case .monitor: Self.monitoring(extras)
      }
    rules = Self.common(extras) + own + Self.absent
  }

  private static func all(_ names: [String]) -> [SystemCallRule] { SystemCallRule.all(names) }

  // MARK: Every process

  private static func common(_ extras: Extras) -> [SystemCallRule] {
    all([
      // Descriptors that are open.
      "close", "read", "readv", "write", "writev", "pread64", "pwrite64", "lseek", "fsync", "fdatasync", "fadvise64",
      "fstat",
      "poll", "ppoll", "recvfrom", "recvmsg",
      // Memory.
      "brk", "munmap", "mremap", "madvise", "mlock",
      // Threads.
      "futex", "set_robust_list", "rseq", "sched_yield", "exit", "exit_group", "restart_syscall",
      // Signals, to oneself.
      "rt_sigprocmask", "rt_sigaction", "rt_sigreturn", "sigaltstack", "signalfd4",
      // Time.
      "clock_gettime", "clock_nanosleep", "nanosleep", "gettimeofday", "time",
      // What the process is told of itself and the system.
      "getpid", "gettid", "getuid", "geteuid", "getgid", "getegid", "getrandom", "sysinfo", "uname",
    ]) + [
      SystemCallRule("mmap", only: "not for code", [[.without(2, PROT_EXEC)]]),
      SystemCallRule("mprotect", only: "not for code", [[.without(2, PROT_EXEC)]]),
      SystemCallRule("clone", only: "for threads", [[.int(0, threadFlags)]]),
      SystemCallRule("sched_getaffinity", only: "of oneself", [[.int(0, Int32(0))]]),
      SystemCallRule(
        "prlimit64", only: "of oneself, for reading",
        [[.int(0, Int32(0)), .zero(2)], [.int(0, getpid()), .zero(2)]]),
      SystemCallRule("tgkill", only: "for oneself", [[.int(0, getpid())]]),
      SystemCallRule("fcntl", only: "copies, flags without O_ASYNC, own locks", fileControls),
      SystemCallRule("ioctl", only: "what a terminal or device is", deviceQuestions(extras)),
      SystemCallRule(
        "sendto", only: "no address, no flags that matter",
        [[.within(3, Int32(MSG_NOSIGNAL) | messageDontWait), .zero(4), .int(5, Int32(0))]]),
    ]
  }

  private static let messageDontWait = Int32(MSG_DONTWAIT)

  /// What the C library makes threads with: CLONE_VM, FS, FILES, SIGHAND, THREAD, SYSVSEM, SETTLS, PARENT_SETTID,
  /// CHILD_CLEARTID. No name space, no process.
  private static let threadFlags: UInt32 = 0x003D_0F00

  /// Linux' own; the C library shows them to GNU sources only.
  private static let (duplicateClosing, setOwnLock): (Int32, Int32) = (1030, 37)
  private static let asynchronous: Int32 = 0o20000

  private static let fileControls: [[SystemCallRule.Test]] =
    [F_GETFL, F_GETFD, F_SETFD, duplicateClosing, setOwnLock].map { [.int(1, $0)] }
    + [[.int(1, F_SETFL), .without(2, asynchronous)]]

  /// Whether a descriptor is a terminal: the C library asks when something is printed. And what a block device is asked
  /// when it is opened: BLKROGET, BLKGETSIZE64, BLKPBSZGET of linux/fs.h, in the numbers of all architectures that
  /// there is Swift for.
  private static func deviceQuestions(_ extras: Extras) -> [[SystemCallRule.Test]] {
    ([UInt32(TCGETS)] + (extras.mayAskDevices ? [0x125E, 0x8008_1272, 0x127B] : [])).map { [.int(1, $0)] }
  }

  // MARK: Who has clients

  private static let serving: [SystemCallRule] =
    all(["accept", "accept4", "epoll_ctl", "epoll_wait", "epoll_pwait"]) + [
      SystemCallRule(
        "setsockopt", only: "TCP_NODELAY", [[.int(1, Int32(IPPROTO_TCP)), .int(2, TCP_NODELAY)]]),
      SystemCallRule(
        "dup2", only: "standard input in place of standard error", [[.int(0, Int32(0)), .int(1, Int32(2))]]),
      SystemCallRule(
        "dup3", only: "standard input in place of standard error", [[.int(0, Int32(0)), .int(1, Int32(2))]]),
    ]

  /// Libraries may try, and have another way.
  private static let pathsDenied = SystemCallRule.all(
    [
      "open", "openat", "openat2", "creat", "stat", "lstat", "newfstatat", "statx", "access", "faccessat", "faccessat2",
      "readlink", "readlinkat", "getcwd", "unlink", "unlinkat", "mkdir", "mkdirat",
    ], .error(EACCES))

  // MARK: Who has keys, and the record of their use

  private static func monitoring(_ extras: Extras) -> [SystemCallRule] {
    var rules = all([
      "open", "openat", "stat", "lstat", "newfstatat", "statx", "fstatfs", "unlink", "wait4", "waitid",
    ])
    // What comes beside a folder that is there is made before the process is confined; the callers go on without.
    rules += SystemCallRule.all(["mkdir", "mkdirat"], .error(EACCES))
    rules += [
      SystemCallRule("unlinkat", only: "no folders", [[.int(2, Int32(0))]]),
      SystemCallRule(
        "sendmsg", only: "no flags that matter", [[.within(2, Int32(MSG_NOSIGNAL) | messageDontWait)]]),
      SystemCallRule("keyctl", only: "finding, reading, own keyrings", keyOperations(extras)),
    ]
    if let worker = extras.worker { rules.append(SystemCallRule("kill", only: "the worker", [[.int(0, worker)]])) }
    if extras.mayAllocate {
      // No mode, or FALLOC_FL_UNSHARE_RANGE: none that takes content away.
      rules.append(SystemCallRule("fallocate", only: "space alone", [[.within(1, 0x40)]]))
    }
    if extras.mayRequestKeys { rules += all(["request_key"]) }
    if extras.mayConnect {
      rules += all(["connect"])
      rules.append(
        SystemCallRule(
          "socket", only: "streams of AF_INET, AF_INET6, AF_UNIX",
          [AF_INET, AF_INET6, AF_UNIX].map { [.int(0, $0), Self.isStream] }))
    }
    return rules
  }

  /// The type's lower four bits; the others are SOCK_CLOEXEC and SOCK_NONBLOCK.
  private static let isStream = SystemCallRule.Test(argument: 1, mask: 0xF, value: UInt64(SOCK_STREAM.rawValue))

  /// Operations of keyctl(2), which Keyring uses to find, view and read keys. Links are made in and removed from the
  /// thread and process keyrings alone, which are this process's own.
  private static func keyOperations(_ extras: Extras) -> [[SystemCallRule.Test]] {
    let (keyringID, describe, search, read): (Int32, Int32, Int32, Int32) = (0, 6, 10, 11)
    let (link, unlink, persistent, join): (Int32, Int32, Int32, Int32) = (8, 9, 22, 1)
    let (threadKeyring, processKeyring): (Int32, Int32) = (-1, -2)
    var operations: [[SystemCallRule.Test]] = [keyringID, describe, search, read].map { [.int(0, $0)] }
    for keyring in [threadKeyring, processKeyring] {
      operations += [link, unlink].map { [.int(0, $0), .int(2, keyring)] }
    }
    operations.append([.int(0, persistent), .int(2, threadKeyring)])
    // An empty one of its own for the thread that asks.
    if extras.mayRequestKeys { operations.append([.int(0, join), .zero(1)]) }
    return operations
  }

  // MARK: Another way

  /// Answered with ENOSYS, for which there is another way: the C library makes threads with clone then, whose flags can
  /// be seen, and the arena for keys takes locked memory where it has to grow.
  private static let absent = SystemCallRule.all(["clone3", "memfd_secret"], .error(ENOSYS))
}
