import Glibc
import VTPM

/// A socket that a service manager made and passed on (sd_listen_fds(3)): systemd with a socket unit,
/// systemd-socket-activate(1).
struct PassedSocket {
  let descriptor: Int32
  /// What the unit's FileDescriptorName= says, or something else that systemd says in its place.
  let name: String

  private static let first: Int32 = 3
  /// There are two channels; more than these are counted, to be refused.
  private static let most: Int32 = 16
  private static let variables = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"]

  /// Those that were passed to this process, and not to one that started it. Programs that are started from now on
  /// don't hear of them.
  static func ofEnvironment() -> [PassedSocket] {
    let values = variables.map { name in unsafe getenv(name).map { unsafe String(cString: $0) } }
    for name in variables { _ = unsafe unsetenv(name) }
    guard let process = values[0], pid_t(process) == getpid(), let count = values[1].flatMap({ Int32($0) }), count > 0
    else {
      return []
    }
    let names = values[2]?.split(separator: ":", omittingEmptySubsequences: false).map(String.init) ?? []
    return (0..<min(count, most)).map { index in
      PassedSocket(descriptor: first + index, name: names.indices.contains(Int(index)) ? names[Int(index)] : "")
    }
  }

  /// The channel that it is meant for; nil where the name doesn't say.
  fileprivate var role: ChannelOptions.Role? {
    switch name {
    case "ctrl", "control": .ctrl
    case "server", "data": .server
    default: nil
    }
  }

  /// A client, where it doesn't listen (`Accept=yes`).
  fileprivate var channel: ChannelOptions {
    var (listens, size): (Int32, socklen_t) = (0, socklen_t(MemoryLayout<Int32>.size))
    let isKnown = unsafe getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0
    return ChannelOptions(isKnown && listens == 0 ? .connected(descriptor) : .listening(descriptor))
  }
}

extension ServerOptions {
  /// Has the channels use these sockets: each the one that its name says, the others the channels that are left,
  /// `--ctrl` first. One that an option names by its number is that option's.
  ///
  /// - Throws: `.usage` where a channel has an option, or two sockets, or one socket is too many.
  mutating func take(_ passed: [PassedSocket]) throws(TPMError) {
    let sockets = passed.filter { !isNamed($0.descriptor) }
    for socket in sockets {
      if let role = socket.role { try take(socket, as: role) }
    }
    for socket in sockets where socket.role == nil {
      try take(socket, as: control == nil ? .ctrl : .server)
    }
  }

  private mutating func take(_ socket: PassedSocket, as role: ChannelOptions.Role) throws(TPMError) {
    guard (role == .ctrl ? control : data) == nil else {
      throw .usage(
        "--\(role.rawValue): descriptor \(socket.descriptor)\(socket.name.isEmpty ? "" : ", \"\(socket.name)\","), which the "
          + "service manager passed (LISTEN_FDS), is one more than can be used")
    }
    if role == .ctrl { control = socket.channel } else { data = socket.channel }
  }

  private func isNamed(_ descriptor: Int32) -> Bool {
    [data?.place, control?.place].contains { $0 == .listening(descriptor) || $0 == .connected(descriptor) }
  }
}
