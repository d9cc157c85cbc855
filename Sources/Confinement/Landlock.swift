// What a process can still reach of the file system and the network (landlock(7)).
//
// Invariants: everything that the kernel's version of landlock knows is handled, so what no rule allows is refused;
// descriptors that are open already keep the rights that they were opened with.
import CSystem
import Glibc

/// The rules of one process.
public struct Landlock: Sendable {
  /// What may be done in a place.
  public enum Access: Sendable {
    /// Reading one file.
    case read
    /// Reading and writing one file that exists: a device, a pipe.
    case write
    /// The same of a block device, which is asked for its size, too.
    case useDevice
    /// Making files in a directory, and reading and writing them: a log.
    case makeFiles
    /// Removing what is in a directory: a socket, in the end.
    case removeFiles
  }

  struct Place: Sendable {
    let path: String
    let access: Access
  }

  private(set) var places: [Place] = []
  /// Whether TCP may still be connected.
  var mayConnect = false
  /// Whether processes outside may still be signalled: a worker was started before, and is outside. The filter says
  /// which.
  var maySignal = false

  public init() {}

  /// Allows something in a place. A directory's rights hold for everything below it. One that doesn't exist needs no
  /// rule.
  public mutating func allow(_ access: Access, _ path: String) { places.append(Place(path: path, access: access)) }

  /// The version of landlock that the running kernel has; `nil` where there is none, it is turned off, or who looks
  /// after this process forbids it.
  public static var version: Int? {
    let version = csystem_landlock_version()
    return version > 0 ? Int(version) : nil
  }

  /// Why there is no version.
  static var absence: String {
    guard csystem_landlock_version() < 0 else { return "there is no landlock" }
    switch errno {
    case ENOSYS: return "this kernel has no landlock"
    case EOPNOTSUPP: return "this kernel's landlock is turned off (its parameter lsm= leaves it out)"
    case let code:
      let reason = unsafe String(cString: strerror(code))
      return "landlock is forbidden to this process (\(reason)), by a container's filter perhaps"
    }
  }

  /// Enforces the rules on this thread and all that it makes, for good. Needs "no new privileges".
  ///
  /// - Returns: false where the kernel has no landlock; nothing is confined then.
  public func enforce() throws(ConfinementError) -> Bool {
    guard let version = Self.version else { return false }
    let rights = Rights.all(version)
    let rules = csystem_landlock_create(
      rights.rawValue, version >= 4 ? (mayConnect ? 0b01 : Self.network) : 0,
      version >= 6 ? (maySignal ? 0b01 : Self.scope) : 0)
    guard rules >= 0 else { throw ConfinementError(errno: errno, "making landlock's rules") }
    defer { close(rules) }
    for place in places { try Self.add(place, to: rules, rights) }
    guard csystem_landlock_enforce(rules) == 0 else {
      throw ConfinementError(errno: errno, "enforcing landlock's rules")
    }
    return true
  }

  private static func add(_ place: Place, to rules: Int32, _ known: Rights) throws(ConfinementError) {
    let descriptor = unsafe open(place.path, 0o10000000 /* O_PATH */ | O_CLOEXEC)
    guard descriptor >= 0 else {
      if errno == ENOENT || errno == ENOTDIR { return }
      throw ConfinementError(errno: errno, "\(place.path): opening it for landlock")
    }
    defer { close(descriptor) }
    let rights = place.access.rights.intersection(known)
    guard csystem_landlock_allow(rules, descriptor, rights.rawValue) == 0 else {
      throw ConfinementError(errno: errno, "\(place.path): allowing it with landlock")
    }
  }

  /// bind and connect of TCP sockets: those that listen were made before.
  private static let network: UInt64 = 0b11
  /// Other processes' abstract Unix sockets, and signals to other processes.
  private static let scope: UInt64 = 0b11

  /// LANDLOCK_ACCESS_FS_*.
  struct Rights: OptionSet {
    let rawValue: UInt64

    static let writeFile = Rights(rawValue: 1 << 1)
    static let readFile = Rights(rawValue: 1 << 2)
    static let readDirectory = Rights(rawValue: 1 << 3)
    static let removeFile = Rights(rawValue: 1 << 5)
    static let makeFile = Rights(rawValue: 1 << 8)
    static let askDevice = Rights(rawValue: 1 << 15)

    /// All that a version knows. 13 from the first on; REFER, TRUNCATE and IOCTL_DEV came with 2, 3 and 5.
    static func all(_ version: Int) -> Rights {
      let count: UInt64
      switch version {
      case 1: count = 13
      case 2: count = 14
      case 3, 4: count = 15
      default: count = 16
      }
      return Rights(rawValue: 1 << count - 1)
    }
  }
}

extension Landlock.Access {
  fileprivate var rights: Landlock.Rights {
    switch self {
    case .read: .readFile
    case .write: [.readFile, .writeFile]
    case .useDevice: [.readFile, .writeFile, .askDevice]
    case .makeFiles: [.readFile, .writeFile, .readDirectory, .makeFile]
    case .removeFiles: .removeFile
    }
  }
}
