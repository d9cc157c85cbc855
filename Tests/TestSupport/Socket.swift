import Foundation
import Testing

/// A client that sends bytes and takes what comes back, over either transport.
public final class Socket {
  private let descriptor: Int32

  public init(path: String) throws {
    descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: path.utf8) }
    try unsafe connect(&address, MemoryLayout<sockaddr_un>.size)
  }

  public init(port: UInt16) throws {
    descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    var address = Self.loopback(port)
    try unsafe connect(&address, MemoryLayout<sockaddr_in>.size)
  }

  private init(adopting descriptor: Int32) {
    self.descriptor = descriptor
    limitWaiting()
  }

  private func limitWaiting() {
    var limit = timeval(tv_sec: 20, tv_usec: 0)
    _ = unsafe setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
  }

  private func connect(_ address: UnsafeRawPointer, _ size: Int) throws {
    limitWaiting()
    let address = unsafe address.assumingMemoryBound(to: sockaddr.self)
    guard unsafe Foundation.connect(descriptor, address, socklen_t(size)) == 0 else {
      throw POSIXError(.ECONNREFUSED)
    }
  }

  deinit { close(descriptor) }

  public func send(_ bytes: [UInt8]) { _ = unsafe Foundation.send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL)) }

  /// Sends bytes and, with them, descriptors of ours, which the receiver gets copies of (SCM_RIGHTS).
  public func send(_ bytes: [UInt8], passing descriptors: [Int32]) {
    var control = [UInt8](repeating: 0, count: 16 + (4 * descriptors.count + 7) / 8 * 8)
    var bytes = bytes
    unsafe control.withUnsafeMutableBytes { control in
      // A cmsghdr: its length without the padding, level and type.
      unsafe control.storeBytes(of: 16 + 4 * descriptors.count, as: Int.self)
      unsafe control.storeBytes(of: SOL_SOCKET, toByteOffset: 8, as: Int32.self)
      unsafe control.storeBytes(of: 1, toByteOffset: 12, as: Int32.self)
      for (index, one) in descriptors.enumerated() {
        unsafe control.storeBytes(of: one, toByteOffset: 16 + 4 * index, as: Int32.self)
      }
      unsafe bytes.withUnsafeMutableBytes { bytes in
        var place = unsafe iovec(iov_base: bytes.baseAddress, iov_len: bytes.count)
        unsafe withUnsafeMutablePointer(to: &place) { place in
          var message = unsafe msghdr(
            msg_name: nil, msg_namelen: 0, msg_iov: place, msg_iovlen: 1, msg_control: control.baseAddress,
            msg_controllen: control.count, msg_flags: 0)
          _ = unsafe sendmsg(descriptor, &message, Int32(MSG_NOSIGNAL))
        }
      }
    }
  }

  /// Two connected sockets.
  public static func pair() throws -> (Socket, Int32) {
    var ends: [Int32] = [-1, -1]
    guard unsafe socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0 else { throw POSIXError(.EMFILE) }
    return (Socket(adopting: ends[0]), ends[1])
  }

  /// What comes until it is so much, or the server hangs up: for what one read needn't give.
  public func receive(atLeast count: Int) -> [UInt8] {
    var all: [UInt8] = []
    while all.count < count {
      let more = receive()
      if more.isEmpty { break }
      all += more
    }
    return all
  }

  /// What one read gives; empty where the server hung up.
  public func receive() -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 8192)
    let n = unsafe recv(descriptor, &bytes, bytes.count, 0)
    return Array(bytes.prefix(max(0, n)))
  }

  public func ask(_ bytes: [UInt8]) -> [UInt8] {
    send(bytes)
    return receive()
  }

  /// Whether something comes within the time, in milliseconds.
  public func hasInput(within milliseconds: Int32) -> Bool {
    var descriptors = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    return unsafe poll(&descriptors, 1, milliseconds) == 1
  }

  // MARK: Ports

  private static func loopback(_ port: UInt16) -> sockaddr_in {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    return address
  }

  /// A listening socket on the loopback address, and its port; 0 asks for a free one.
  public static func listen(_ port: UInt16 = 0) throws -> (descriptor: Int32, port: UInt16) {
    var address = loopback(port)
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let result = unsafe withUnsafeMutablePointer(to: &address) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
        unsafe bind(descriptor, pointer, length) == 0 && Foundation.listen(descriptor, 1) == 0
          && getsockname(descriptor, pointer, &length) == 0
      }
    }
    guard result else {
      close(descriptor)
      throw POSIXError(.EADDRINUSE)
    }
    return (descriptor, UInt16(bigEndian: address.sin_port))
  }

  /// A free port whose successor is free too: tpm2-tools take the control channel to be there.
  public static func freePorts() throws -> UInt16 {
    for _ in 0..<100 {
      let (first, port) = try listen()
      defer { close(first) }
      guard port < UInt16.max, let (second, _) = try? listen(port + 1) else { continue }
      close(second)
      return port
    }
    throw POSIXError(.EADDRNOTAVAIL)
  }
}
