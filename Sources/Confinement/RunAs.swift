// Another user than root, for good.
import CSystem
import Glibc
import Primitives

/// A user that a server started by root goes on as.
public struct RunAs: Sendable, Equatable {
  public let name: String
  public let user: uid_t
  public let group: gid_t

  /// A name or a number of the user database.
  ///
  /// - Throws: `.usage` for one that isn't in it.
  public init(_ text: String) throws(ConfinementError) {
    let found: RunAs? = unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: 1 << 16) { buffer in
      guard let base = buffer.baseAddress else { return nil }
      var entry = unsafe passwd()
      var result: UnsafeMutablePointer<passwd>?
      var code = unsafe getpwnam_r(text, &entry, base, buffer.count, &result)
      if unsafe result == nil, let number = uid_t(text), number != uid_t.max {
        code = unsafe getpwuid_r(number, &entry, base, buffer.count, &result)
      }
      guard code == 0, unsafe result != nil else { return nil }
      return unsafe RunAs(String(cString: entry.pw_name), entry.pw_uid, entry.pw_gid)
    }
    guard let found else { throw ConfinementError(.usage, "there is no user \"\(text)\"") }
    self = found
  }

  /// One that was looked up before, by another process.
  public init(name: String, user: uid_t, group: gid_t) {
    (self.name, self.user, self.group) = (name, user, group)
  }

  private init(_ name: String, _ user: uid_t, _ group: gid_t) {
    (self.name, self.user, self.group) = (name, user, group)
  }

  /// Becomes the user with its own group and no others. What is open stays open; the session keyring stays, the user
  /// keyrings are the new user's. The process has one thread yet, or all of them change.
  ///
  /// - Throws: `.refused` for who isn't root.
  public func become() throws(ConfinementError) {
    guard geteuid() == 0 else {
      throw ConfinementError(.refused, "only root can go on as \(name)")
    }
    // As root these set the real, the effective and the saved one.
    guard setgroups(0, nil) == 0, setgid(group) == 0, setuid(user) == 0 else {
      throw ConfinementError(errno: errno, "going on as \(name)")
    }
    guard user == 0 || setuid(0) != 0 else { throw ConfinementError("\(name) can become root again") }
    // The kernel forgets it with the user.
    _ = csystem_forbid_dumps()
  }
}

extension ConfinementError {
  fileprivate init(_ description: String) { self.init(.failed, description) }
}
