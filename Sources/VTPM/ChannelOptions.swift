import Glibc
import SwtpmFormat

/// Where one of the server's two channels is to be had: the value of swtpm's `--server` or `--ctrl`.
public struct ChannelOptions: Sendable, Equatable {
  public enum Place: Sendable, Equatable {
    case tcp(bindAddress: String, port: UInt16)
    case unix(path: String)
    /// A socket that listens already (`--ctrl fd=`).
    case listening(Int32)
    /// One that another process has made ready.
    case opened(Int32)
    /// A client that is connected already (`--server fd=`, `--ctrl clientfd=`).
    case connected(Int32)
  }

  public enum Role: String, Sendable {
    case server
    case ctrl
  }

  public var place: Place
  /// The Unix socket's permissions. swtpm's default lets the group in; here nobody but the owner is, unless told so.
  public var mode: mode_t = 0o600
  public var user: uid_t?
  public var group: gid_t?
  /// Hang up after each response.
  public var disconnects = false
  /// End when a client hangs up.
  public var terminates = false

  public init(_ place: Place) { self.place = place }

  /// Goes on with a socket that another process has opened for this.
  public mutating func take(_ descriptor: Int32) {
    if case .connected = place { place = .connected(descriptor) } else { place = .opened(descriptor) }
  }

  /// Parses `type=tcp,port=N[,bindaddr=A[,ifname=I]]`, `type=unixio,path=P[,mode=0…][,uid=U][,gid=G]`, and for both
  /// types `fd=N` and, for `--ctrl`, `clientfd=N`; `--server` may leave the type out, which is tcp, and may say
  /// `disconnect`, `--ctrl` may say `terminate`. Each key at most once, none unknown. A mistake shows here and not when
  /// the socket is made: by then a key was used.
  public init(parsing text: String, as role: Role) throws(TPMError) {
    let name = "--\(role.rawValue)"
    var list = try KeyValueList<TPMError>(text, option: name)
    guard let type = try list.value("type") ?? (role == .server ? "tcp" : nil) else {
      throw .usage("\(name): say type=tcp or type=unixio")
    }
    guard type == "tcp" || type == "unixio" else { throw .usage("\(name): no type \"\(type)\": tcp or unixio") }

    var places: [Place] = []
    // Standard streams, too: inetd and systemd hand sockets over as these (`ServerOptions.freeStandardStreams`).
    if let descriptor = try list.number("fd", UInt32(0)...UInt32(Int32.max)) {
      places.append(role == .server ? .connected(Int32(descriptor)) : .listening(Int32(descriptor)))
    }
    if role == .ctrl, let descriptor = try list.number("clientfd", UInt32(0)...UInt32(Int32.max)) {
      places.append(.connected(Int32(descriptor)))
    }
    if type == "tcp" {
      var address = try list.value("bindaddr")
      // Only an address that is one link's needs it; as in swtpm it does no harm elsewhere.
      if let interface = try list.value("ifname"), let given = address, given.lowercased().hasPrefix("fe80:") {
        address = "\(given)%\(interface)"
      }
      if let address, !ListeningSocket.isNumericAddress(address) {
        throw .usage("\(name): \"\(address)\" is not a numeric address to bind to")
      }
      if let port = try list.number("port", UInt16(1)...UInt16.max) {
        places.append(.tcp(bindAddress: address ?? "127.0.0.1", port: port))
      } else if address != nil {
        throw .usage("\(name): bindaddr needs a port")
      }
    } else if let path = try list.value("path") {
      guard !path.isEmpty, path.utf8.count < 108 else { throw .usage("\(name): a path has 1 to 107 bytes") }
      places.append(.unix(path: path))
    }
    guard let place = places.first, places.count == 1 else {
      throw .usage("\(name): say either \(type == "tcp" ? "port" : "path") or a descriptor")
    }
    self.init(place)

    if type == "unixio" {
      if let mode = try list.value("mode") {
        guard mode.utf8.count <= 5, let bits = mode_t(mode, radix: 8), bits <= 0o777 else {
          throw .usage("\(name): mode is octal, at most 0777")
        }
        self.mode = bits
      }
      user = try list.identifier("uid", Accounts.user)
      group = try list.identifier("gid", Accounts.group)
    }
    switch role {
    case .server: disconnects = try list.flag("disconnect")
    case .ctrl: terminates = try list.flag("terminate")
    }
    try list.finish()
  }
}
