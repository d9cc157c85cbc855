// What a process gives up once it has opened everything it needs, so that a hole in a library it uses is worth as
// little as possible.
import CSystem
import Glibc

/// What a process gives up, to be applied once, on the first thread, before others are made.
public struct Confinement: Sendable {
  /// What a process is for; SECURITY.md has what each may do.
  public enum Role: Sendable {
    /// Serves clients with what it was given: descriptors. It opens nothing and uses no keys.
    case worker
    /// Finds keys, keeps the record of their use, and looks after a worker.
    case monitor
  }

  public let role: Role
  /// Who to go on as; `nil`: who it is.
  public var user: RunAs?
  /// What may be reached by name from then on; nothing, for a worker.
  public var places = Landlock()
  /// What happens on a system call that isn't allowed.
  public var violations = SystemCallFilter.Action.kill

  /// Whether sockets may still be made and connected: for a TPM that is reached by one anew for each command. Never a
  /// worker's.
  public var mayConnect = false
  /// Whether a block device may be asked for its size and blocks, as it is when it is opened.
  public var mayOpenDevices = false
  /// Whether files that may be written to may still have their space allocated, as an image is when it is opened. Never
  /// a worker's.
  public var mayAllocate = false
  /// Whether the kernel may still be asked for keys that are in no keyring. Never a worker's.
  public var mayRequestKeys = false
  /// The only process that a monitor may signal.
  public var worker: pid_t?
  /// The process that this one ends with: it gets SIGKILL when the thread that started it ends.
  public var parent: pid_t?

  /// For tests: as on a kernel without landlock.
  @_spi(Testing) public var leavesOutLandlock = false

  public init(_ role: Role) { self.role = role }

  /// Goes on as the other user, and sets "no new privileges". Apart from `apply`, for what is to be made as that user.
  public func becomeUser() throws(ConfinementError) {
    guard csystem_no_new_privileges() == 0 else { throw ConfinementError(errno: errno, "giving up new privileges") }
    try user?.become()
    // After that, with which the kernel forgets it.
    guard let parent else { return }
    guard csystem_end_with_parent(parent) == 0 else { throw ConfinementError(errno: errno, "ending with its parent") }
  }

  /// Enforces landlock's rules, gives up capabilities, and enforces the filter; after `becomeUser`. Returns what could
  /// not be confined, for the log.
  public func apply() throws(ConfinementError) -> [String] {
    var lacking: [String] = []
    if try !enforceLandlock() {
      lacking.append("\(Landlock.absence): files and the network are not confined")
    } else if let version = Landlock.version, version < 4 {
      lacking.append("this kernel has landlock version \(version), which does not confine the network")
    }
    try Capabilities(role).keepOnlyThese()
    guard csystem_forbid_dumps() == 0 else { throw ConfinementError(errno: errno, "forbidding core dumps") }
    try SystemCallFilter.enforce(violations, profile)
    if violations == .none { lacking.append("system calls are not filtered") }
    return lacking
  }

  private func enforceLandlock() throws(ConfinementError) -> Bool {
    if leavesOutLandlock { return false }
    // A worker has no places, whatever was asked for.
    var places = role == .worker ? Landlock() : places
    places.mayConnect = role != .worker && mayConnect
    places.maySignal = role != .worker && worker != nil
    return try places.enforce()
  }

  /// The filter's rules; the numbers of this process are in it.
  var profile: SystemCallProfile {
    SystemCallProfile(
      role,
      SystemCallProfile.Extras(
        mayConnect: mayConnect, mayAskDevices: mayOpenDevices, mayAllocate: mayAllocate, mayRequestKeys: mayRequestKeys,
        worker: worker))
  }
}
