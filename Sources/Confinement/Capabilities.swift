// What root can do that others can't (capabilities(7)), given up but for a few.
import CSystem
import Glibc

/// Capabilities that a process keeps.
struct Capabilities: OptionSet, Sendable {
  let rawValue: UInt64

  /// CAP_DAC_OVERRIDE: writing the record, and removing sockets, in folders of other users.
  static let overrideAccess = Capabilities(rawValue: 1 << 1)
  /// CAP_FOWNER: removing a socket that was given to another user from a folder with the sticky bit.
  static let actAsOwner = Capabilities(rawValue: 1 << 3)
  /// CAP_KILL: ending a worker that went on as another user.
  static let signalOthers = Capabilities(rawValue: 1 << 5)
  /// CAP_IPC_LOCK: locking memory for keys beyond the limit.
  static let lockMemory = Capabilities(rawValue: 1 << 14)

  init(rawValue: UInt64) { self.rawValue = rawValue }

  /// What a role needs, where it has it.
  init(_ role: Confinement.Role) {
    switch role {
    case .worker: self = []
    case .monitor: self = [.overrideAccess, .actAsOwner, .signalOthers, .lockMemory]
    }
  }

  /// Gives up all others on this thread and those it makes: effective, permitted, inheritable, ambient, and, where that
  /// is permitted, of the bounding set.
  func keepOnlyThese() throws(ConfinementError) {
    guard csystem_keep_capabilities(rawValue) == 0 else {
      throw ConfinementError(errno: errno, "giving up capabilities")
    }
  }
}
