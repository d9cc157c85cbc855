import Glibc

/// A client's end of a Unix socket, which never blocks. Closed when it goes.
final class LocalSocket {
  let descriptor: Int32

  init(_ descriptor: Int32) { self.descriptor = descriptor }

  deinit { close(descriptor) }

  /// Two ends; the other one is the caller's to close.
  static func pair() -> (LocalSocket?, Int32) {
    var ends: [Int32] = [-1, -1]
    let result = unsafe socketpair(AF_UNIX, type, 0, &ends)
    require(result == 0, "socketpair: \(errno)")
    return (LocalSocket(ends[0]), ends[1])
  }

  private static var type: Int32 {
    Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
  }

  /// A socket that listens in the abstract namespace, under a name of the kernel's choosing.
  static func listening() -> Int32 {
    let descriptor = socket(AF_UNIX, type, 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let size = socklen_t(MemoryLayout<sa_family_t>.size)
    let result = unsafe withGeneric(&address) { unsafe bind(descriptor, $0, size) }
    require(descriptor >= 0 && result == 0 && listen(descriptor, 4) == 0, "a socket to listen on: \(errno)")
    return descriptor
  }

  /// Connects to what listens there.
  convenience init(to listener: Int32) {
    var address = sockaddr_un()
    var size = socklen_t(MemoryLayout<sockaddr_un>.size)
    _ = unsafe Self.withGeneric(&address) { unsafe getsockname(listener, $0, &size) }
    let descriptor = socket(AF_UNIX, Self.type, 0)
    let result = unsafe Self.withGeneric(&address) { unsafe connect(descriptor, $0, size) }
    require(result == 0 || errno == EAGAIN, "connecting: \(errno)")
    self.init(descriptor)
  }

  private static func withGeneric<R>(
    _ address: inout sockaddr_un, _ body: (UnsafeMutablePointer<sockaddr>) -> R
  ) -> R {
    unsafe withUnsafeMutablePointer(to: &address) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe body($0) }
    }
  }

  func send(_ bytes: [UInt8]) {
    _ = unsafe Glibc.send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL))
  }

  /// Sends bytes and a descriptor of ours, of which the receiver gets a copy (SCM_RIGHTS).
  func send(_ bytes: [UInt8], passing descriptor: Int32) {
    var (bytes, control) = (bytes, [UInt8](repeating: 0, count: 24))
    unsafe bytes.withUnsafeMutableBytes { bytes in
      unsafe control.withUnsafeMutableBytes { control in
        // A cmsghdr: its length, level and type.
        unsafe control.storeBytes(of: 20, as: Int.self)
        unsafe control.storeBytes(of: SOL_SOCKET, toByteOffset: 8, as: Int32.self)
        unsafe control.storeBytes(of: 1, toByteOffset: 12, as: Int32.self)
        unsafe control.storeBytes(of: descriptor, toByteOffset: 16, as: Int32.self)
        var place = unsafe iovec(iov_base: bytes.baseAddress, iov_len: bytes.count)
        unsafe withUnsafeMutablePointer(to: &place) { place in
          var message = unsafe msghdr(
            msg_name: nil, msg_namelen: 0, msg_iov: place, msg_iovlen: 1, msg_control: control.baseAddress,
            msg_controllen: control.count, msg_flags: 0)
          _ = unsafe sendmsg(self.descriptor, &message, Int32(MSG_NOSIGNAL))
        }
      }
    }
  }

  /// All there is now.
  func received() -> [UInt8] {
    var all: [UInt8] = []
    var part = [UInt8](repeating: 0, count: 8192)
    while true {
      let count = unsafe recv(descriptor, &part, part.count, 0)
      guard count > 0 else { return all }
      all += part[..<count]
    }
  }
}
