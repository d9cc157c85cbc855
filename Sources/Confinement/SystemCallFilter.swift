// Which system calls a process may still make (seccomp(2)), through libseccomp, which knows every architecture's numbers.
// SECURITY.md lists them; a test holds the two together.
import CLibseccomp
import Glibc

/// The system calls of a server that has opened everything it needs. What isn't listed can't be done: no program is
/// started, no process traced or signalled, no socket made, no module, mount, name space or BPF program.
public enum SystemCallFilter {
  /// What happens to who makes another one. The words are swtpm's.
  public enum Action: String, Sendable {
    /// The process ends at once, by SIGSYS.
    case kill
    /// The call is made, and the kernel's log has a line.
    case log
    /// There is no filter.
    case none
  }

  public static let allowed = [
    // Files, of which landlock says which.
    "open", "openat", "close", "read", "readv", "write", "writev", "pread64", "pwrite64", "lseek", "fsync", "fdatasync",
    "fadvise64", "stat", "fstat", "lstat", "newfstatat", "statx", "fcntl", "getdents64", "mkdir", "mkdirat", "unlink",
    "unlinkat",
    // Clients of sockets that have their addresses already.
    "listen", "accept", "accept4", "recvfrom", "recvmsg", "sendto", "sendmsg", "setsockopt", "getsockopt", "shutdown",
    "poll",
    "ppoll",
    // Keys.
    "keyctl",
    // Memory. mmap and mprotect are allowed too, but not for code.
    "brk", "munmap", "mremap", "madvise", "mlock",
    // Threads. clone is allowed too, but not for processes.
    "futex", "set_robust_list", "rseq", "sched_yield", "sched_getaffinity", "exit", "restart_syscall",
    // Signals, to oneself.
    "rt_sigprocmask", "rt_sigaction", "rt_sigreturn", "sigaltstack", "signalfd4", "tgkill",
    // Time.
    "clock_gettime", "clock_nanosleep", "nanosleep", "gettimeofday", "time",
    // What the process is told of itself and the system.
    "getpid", "gettid", "getuid", "geteuid", "getgid", "getegid", "getrandom", "sysinfo", "uname", "prlimit64",
    "exit_group",
  ]

  /// What a block device is asked when it is opened: BLKROGET, BLKGETSIZE64, BLKPBSZGET of linux/fs.h, in the numbers of all
  /// architectures that there is Swift for.
  private static let deviceQuestions: [UInt64] = [0x125E, 0x8008_1272, 0x127B]

  /// Allowed for some arguments only.
  public static let conditional = ["clone", "ioctl", "mmap", "mprotect"]

  /// Answered with ENOSYS, for which there is another way: the C library makes threads with clone then, whose flags can be
  /// seen, and the arena for keys takes locked memory where it has to grow.
  public static let absent = ["clone3", "memfd_secret"]

  /// Enforces the filter on all threads, for good. Needs "no new privileges".
  ///
  /// - Parameters:
  ///   - mayConnect: see `Confinement`.
  ///   - mayOpenDevices: see `Confinement`.
  ///   - mayRequestKeys: see `Confinement`.
  public static func enforce(
    _ action: Action, mayConnect: Bool = false, mayOpenDevices: Bool = false, mayRequestKeys: Bool = false
  ) throws(ConfinementError) {
    guard action != .none else { return }
    let others = action == .kill ? SCMP_ACT_KILL_PROCESS : SCMP_ACT_LOG
    guard let filter = unsafe seccomp_init(others) else { throw ConfinementError(errno: ENOMEM, "making the filter") }
    defer { unsafe seccomp_release(filter) }
    try unsafe check(seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1))
    // A binary tree instead of a list: every call passes it.
    try unsafe check(seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2))
    for name in allowed { try unsafe add(filter, SCMP_ACT_ALLOW, name) }
    for name in mayConnect ? ["socket", "connect"] : [] { try unsafe add(filter, SCMP_ACT_ALLOW, name) }
    if mayRequestKeys { try unsafe add(filter, SCMP_ACT_ALLOW, "request_key") }
    for name in absent { try unsafe add(filter, 0x0005_0000 | UInt32(ENOSYS) /* SCMP_ACT_ERRNO */, name) }
    let notForCode = scmp_arg_cmp(arg: 2, op: SCMP_CMP_MASKED_EQ, datum_a: UInt64(PROT_EXEC), datum_b: 0)
    try unsafe add(filter, SCMP_ACT_ALLOW, "mmap", notForCode)
    try unsafe add(filter, SCMP_ACT_ALLOW, "mprotect", notForCode)
    // Whether a descriptor is a terminal: the C library asks when something is printed.
    for request in [UInt64(TCGETS)] + (mayOpenDevices ? deviceQuestions : []) {
      try unsafe add(
        filter, SCMP_ACT_ALLOW, "ioctl", scmp_arg_cmp(arg: 1, op: SCMP_CMP_EQ, datum_a: request, datum_b: 0))
    }
    let thread = UInt64(0x10000 /* CLONE_THREAD */)
    try unsafe add(
      filter, SCMP_ACT_ALLOW, "clone", scmp_arg_cmp(arg: 0, op: SCMP_CMP_MASKED_EQ, datum_a: thread, datum_b: thread))
    try unsafe check(seccomp_load(filter))
  }

  /// A call that this architecture doesn't have is none that need be allowed.
  private static func add(
    _ filter: scmp_filter_ctx, _ action: UInt32, _ name: String, _ condition: scmp_arg_cmp? = nil
  ) throws(ConfinementError) {
    let number = unsafe seccomp_syscall_resolve_name(name)
    guard number >= 0 else { return }
    guard var condition else {
      try unsafe check(seccomp_rule_add_array(filter, action, number, 0, nil))
      return
    }
    try unsafe check(seccomp_rule_add_array(filter, action, number, 1, &condition))
  }

  /// libseccomp returns the error's number, negative.
  private static func check(_ result: Int32) throws(ConfinementError) {
    guard result == 0 else { throw ConfinementError(errno: -result, "filtering system calls") }
  }
}
