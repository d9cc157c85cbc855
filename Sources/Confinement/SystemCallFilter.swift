// Which system calls a process may still make (seccomp(2)), through libseccomp, which knows every architecture's
// numbers.
import CLibseccomp
import Glibc

/// The filter of a process that has opened everything it needs. What isn't in its profile can't be done: no program is
/// started, no process traced, no module, mount, name space or BPF program made.
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

  /// Enforces the profile on all threads, for good. Needs "no new privileges".
  static func enforce(_ action: Action, _ profile: SystemCallProfile) throws(ConfinementError) {
    guard action != .none else { return }
    let others = action == .kill ? SCMP_ACT_KILL_PROCESS : SCMP_ACT_LOG
    guard let filter = unsafe seccomp_init(others) else { throw ConfinementError(errno: ENOMEM, "making the filter") }
    defer { unsafe seccomp_release(filter) }
    try unsafe check(seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1))
    // A binary tree instead of a list: every call passes it.
    try unsafe check(seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2))
    for rule in profile.rules { try unsafe add(rule, to: filter) }
    try unsafe check(seccomp_load(filter))
  }

  /// A call that this architecture doesn't have is none that need be allowed.
  private static func add(_ rule: SystemCallRule, to filter: scmp_filter_ctx) throws(ConfinementError) {
    let number = unsafe seccomp_syscall_resolve_name(rule.name)
    guard number >= 0 else { return }
    let answer: UInt32 =
      switch rule.answer {
      case .allow: SCMP_ACT_ALLOW
      case .error(let code): 0x0005_0000 | UInt32(code)  // SCMP_ACT_ERRNO
      }
    guard !rule.alternatives.isEmpty else {
      try unsafe check(seccomp_rule_add_array(filter, answer, number, 0, nil))
      return
    }
    for tests in rule.alternatives {
      let arguments = tests.map {
        scmp_arg_cmp(arg: $0.argument, op: SCMP_CMP_MASKED_EQ, datum_a: $0.mask, datum_b: $0.value)
      }
      try unsafe check(seccomp_rule_add_array(filter, answer, number, UInt32(arguments.count), arguments))
    }
  }

  /// libseccomp returns the error's number, negative.
  private static func check(_ result: Int32) throws(ConfinementError) {
    guard result == 0 else { throw ConfinementError(errno: -result, "filtering system calls") }
  }
}
