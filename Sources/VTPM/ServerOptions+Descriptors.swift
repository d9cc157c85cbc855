import Glibc

/// Sockets that who started the server has made.
extension ServerOptions {
  /// Gives sockets that came as standard streams other numbers: inetd hands a client over as all three, a systemd unit
  /// with `StandardInput=socket` as the first. In their place is /dev/null, so that no message goes to a client, and a
  /// client that the server hangs up on is hung up on.
  ///
  /// To be called before messages are written and before descriptors are handed on.
  ///
  /// - Throws: `.usage` for a descriptor that is no socket.
  public mutating func freeStandardStreams() throws(TPMError) {
    let sockets = [try Self.move(&data, .server), try Self.move(&control, .ctrl)].compactMap { $0 }
    let streams = (Int32(0)...2).filter { stream in
      guard let status = Self.socket(stream) else { return false }
      return sockets.contains { $0.st_dev == status.st_dev && $0.st_ino == status.st_ino }
    }
    guard !streams.isEmpty else { return }
    let nothing = unsafe open("/dev/null", O_RDWR | O_CLOEXEC)
    guard nothing >= 0 else { throw .socket(operation: "open", address: "/dev/null", errno: errno) }
    for stream in streams { dup2(nothing, stream) }
    close(nothing)
  }

  /// Has the channel use a number that is no standard stream's. What is known of its socket; nil for none that was
  /// handed over.
  private static func move(_ channel: inout ChannelOptions?, _ role: ChannelOptions.Role) throws(TPMError) -> stat? {
    let number: Int32
    switch channel?.place {
    case .listening(let descriptor), .connected(let descriptor): number = descriptor
    default: return nil
    }
    guard let status = socket(number), isStream(number) else {
      throw .usage("--\(role.rawValue): descriptor \(number) is not open, or no socket of streams")
    }
    guard number <= 2 else { return status }
    let other = fcntl(number, F_DUPFD_CLOEXEC, 3)
    guard other >= 0 else { throw .socket(operation: "fcntl", address: "descriptor \(number)", errno: errno) }
    if case .listening = channel?.place {
      channel?.place = .listening(other)
    } else {
      channel?.place = .connected(other)
    }
    return status
  }

  private static func isStream(_ descriptor: Int32) -> Bool {
    var (type, size): (Int32, socklen_t) = (0, socklen_t(MemoryLayout<Int32>.size))
    return unsafe getsockopt(descriptor, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == Int32(SOCK_STREAM.rawValue)
  }

  /// What is known of the descriptor, if it is a socket.
  private static func socket(_ descriptor: Int32) -> stat? {
    var status = stat()
    guard unsafe fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFSOCK else { return nil }
    return status
  }
}
