import Confinement
import Glibc
import Primitives
import SwtpmFormat
import VTPM

/// What the worker is told before it begins: what the command line and the options file said, as far as it concerns a TPM and its
/// two channels. It comes on the channel of requests, after the descriptors that it needs, each in a message of its own.
struct WorkerConfiguration {
  var server = ServerOptions()
  /// The size of the key that the monitor has of `--key`, of which `server` gets nothing here; 0 where there is none.
  var stateKeySize: UInt8 = 0
  /// Whether the monitor has an anchor.
  var hasAnchor = false
  var violations = SystemCallFilter.Action.kill
  /// Who to go on as.
  var user: RunAs?
  var logPrefix = Log.standardPrefix
  /// Whether standard error is given up when clients are served: the log is elsewhere, or this is a daemon.
  var leavesStandardError = false
  /// The log's descriptor, once it came; -1 where that is standard error alone.
  private(set) var log: Int32 = -1

  init() {}

  /// What a descriptor that is passed is for.
  enum Role: UInt8 {
    case log = 1
    case data = 2
    case control = 3
  }

  private static let configuration: UInt8 = 0
  private static let descriptor: UInt8 = 100

  // MARK: Sending

  /// - Parameter sockets: the channels, made and listening.
  func send(on link: Link, sockets: ServerSockets, log: Int32) throws(LinkError) {
    for (role, descriptor) in [(Role.log, log), (.data, sockets.data), (.control, sockets.control)]
    where descriptor >= 0 {
      try link.send(Self.descriptor, descriptor: descriptor) { $0.put(role.rawValue) }
    }
    try link.send(Self.configuration) { put(into: &$0) }
  }

  private func put(into message: inout MessageBuffer) {
    message.put(server.version == .tpm2)
    message.put(server.startsByItself)
    message.put(UInt8(Self.startups.firstIndex(of: server.startup) ?? 0))
    message.put(server.terminatesOnHangUp)
    message.put(Int64(server.keyTimeout ?? -1))
    message.put(server.concludesForGuest)
    message.put(server.rejectsLocality4)
    message.put(server.allowsSetLocality)
    message.put(stateKeySize)
    message.put(server.releasesLockOutgoing)
    message.put(server.isIncoming)
    message.put(server.servesWhilePending)
    message.put(server.data)
    message.put(server.control)
    if let key = server.migrationKey {
      let secret = key.copyOfSecret()
      message.put(secret.span)
    } else {
      message.put(UInt32(0))
    }
    message.put(hasAnchor)
    message.put(violations.rawValue)
    message.put(user?.name ?? "")
    message.put(user?.user ?? 0)
    message.put(user?.group ?? 0)
    message.put(logPrefix)
    message.put(leavesStandardError)
  }

  private static var startups: [TPM.Startup] { [.none, .clear, .state, .deactivated] }

  // MARK: Receiving

  /// Waits for all of it.
  init(receivingOn link: Link) throws(LinkError) {
    var descriptors: [Role: Int32] = [:]
    while true {
      let found = try link.await { (kind, passed, message) throws(LinkError) -> WorkerConfiguration? in
        guard kind == Self.descriptor else { return try WorkerConfiguration(&message, descriptors) }
        guard let role = Role(rawValue: try message.take(UInt8.self)), passed >= 0 else {
          throw LinkError("a descriptor is missing")
        }
        descriptors[role] = passed
        return nil
      }
      if let found {
        self = found
        return
      }
    }
  }

  private init(_ message: inout MessageBuffer, _ descriptors: [Role: Int32]) throws(LinkError) {
    server.version = try message.takeBool() ? .tpm2 : .tpm12
    server.startsByItself = try message.takeBool()
    server.startup = Self.startups[Int(try message.take(UInt8.self)) & 3]
    server.terminatesOnHangUp = try message.takeBool()
    let timeout = try message.take(Int64.self)
    server.keyTimeout = timeout < 0 ? nil : Int(timeout)
    server.concludesForGuest = try message.takeBool()
    server.rejectsLocality4 = try message.takeBool()
    server.allowsSetLocality = try message.takeBool()
    stateKeySize = try message.take(UInt8.self)
    server.releasesLockOutgoing = try message.takeBool()
    server.isIncoming = try message.takeBool()
    server.servesWhilePending = try message.takeBool()
    server.data = try message.takeChannel(descriptors[.data])
    server.control = try message.takeChannel(descriptors[.control])
    let key = try message.takeSecret(atMost: 32)
    if key.count > 0 {
      guard key.count == 16 || key.count == 32 else { throw LinkError("a migration key has 16 or 32 bytes") }
      server.migrationKey = SwtpmKey(key)
    }
    hasAnchor = try message.takeBool()
    violations = SystemCallFilter.Action(rawValue: try message.takeText()) ?? .kill
    let name = try message.takeText()
    let (uid, gid) = (try message.take(UInt32.self), try message.take(UInt32.self))
    user = name.isEmpty ? nil : RunAs(name: name, user: uid, group: gid)
    logPrefix = try message.takeText()
    leavesStandardError = try message.takeBool()
    log = descriptors[.log] ?? -1
  }
}

extension MessageBuffer {
  /// What kind of channel it is; its descriptor goes by itself.
  fileprivate mutating func put(_ channel: ChannelOptions?) {
    switch channel?.place {
    case nil: put(UInt8(0))
    case .connected: put(UInt8(2))
    case .tcp, .unix, .listening: put(UInt8(1))
    }
    put(channel?.disconnects ?? false)
    put(channel?.terminates ?? false)
  }

  fileprivate mutating func takeChannel(_ descriptor: Int32?) throws(LinkError) -> ChannelOptions? {
    let kind = try take(UInt8.self)
    let (disconnects, terminates) = (try takeBool(), try takeBool())
    guard kind > 0 else { return nil }
    guard let descriptor else { throw LinkError("a channel's descriptor is missing") }
    var channel = ChannelOptions(kind == 2 ? .connected(descriptor) : .listening(descriptor))
    channel.disconnects = disconnects
    channel.terminates = terminates
    return channel
  }
}
