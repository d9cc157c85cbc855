// How a process that has opened what it needs, and handles what others send it from then on, gives up all else.
import CSystem
import Glibc

/// A server's confinement. To be applied once, on the first thread, before others are made.
public struct Confinement: Sendable {
  /// Who to go on as; `nil`: who it is.
  public var user: RunAs?
  /// What may be reached by name from then on.
  public var places = Landlock()
  /// What happens on a system call that isn't allowed.
  public var violations = SystemCallFilter.Action.kill

  /// Whether sockets may still be made and connected: for a TPM that is reached by one anew for each command.
  public var mayConnect = false
  /// Whether the kernel may still be asked for keys that are in no keyring.
  public var mayRequestKeys = false
  /// Whether a block device among `places` may be opened: it is asked for its size and blocks then.
  public var mayOpenDevices = false

  public init() {}

  /// Goes on as the other user, and sets "no new privileges". Apart from `apply`, for what is to be made as that user.
  public func becomeUser() throws(ConfinementError) {
    guard csystem_no_new_privileges() == 0 else { throw ConfinementError(errno: errno, "giving up new privileges") }
    try user?.become()
  }

  /// Enforces landlock's rules and the filter; after `becomeUser`. Returns what could not be confined, for the log.
  public func apply() throws(ConfinementError) -> [String] {
    var lacking: [String] = []
    var places = places
    places.mayConnect = mayConnect
    if try !places.enforce() {
      lacking.append("\(Landlock.absence): files and the network are not confined")
    } else if let version = Landlock.version, version < 4 {
      lacking.append("this kernel has landlock version \(version), which does not confine the network")
    }
    try SystemCallFilter.enforce(
      violations, mayConnect: mayConnect, mayOpenDevices: mayOpenDevices, mayRequestKeys: mayRequestKeys)
    if violations == .none { lacking.append("system calls are not filtered") }
    return lacking
  }
}
