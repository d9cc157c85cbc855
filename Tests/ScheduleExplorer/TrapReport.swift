import Glibc

/// Names the seed where what is explored traps: that is a violation as well, and the process ends with it.
public enum TrapReport {
  private static let key: pthread_key_t = {
    var key = pthread_key_t()
    precondition(unsafe pthread_key_create(&key, nil) == 0)
    return key
  }()
  /// Set once, before the first schedule: a signal handler may take no lock.
  private nonisolated(unsafe) static var suffix = ""

  /// Has a trap say how to have it again, and end the process with status 1.
  ///
  /// - Parameter suffix: further options of vnvram-soak.
  public static func install(suffix: String) {
    _ = key
    unsafe Self.suffix = suffix
    for number in [SIGILL, SIGTRAP, SIGABRT, SIGSEGV] {
      signal(number) { number in TrapReport.report(number) }
    }
  }

  /// The calling thread runs a schedule of that seed.
  static func enter(_ seed: UInt64) { unsafe pthread_setspecific(key, UnsafeRawPointer(bitPattern: UInt(seed) + 1)) }

  /// A process that traps has nothing to lose by calling what a signal handler may not.
  private static func report(_ number: Int32) {
    let seed = unsafe UInt(bitPattern: pthread_getspecific(key)) &- 1
    let text = """
      FAILED: TRAP: signal \(number), in the schedule or in what it calls
      reproduce with: vnvram-soak --schedules --seed \(seed)\(unsafe suffix)

      """
    _ = unsafe Array(text.utf8).withUnsafeBytes { unsafe write(STDOUT_FILENO, $0.baseAddress, $0.count) }
    _exit(1)
  }
}
