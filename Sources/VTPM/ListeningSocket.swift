import CSystem
import Glibc
import ProgramIO

/// A socket that waits for clients, non-blocking, from the beginning on. A Unix socket's path is removed when it is
/// closed, if it still is that socket's.
final class ListeningSocket {
  private(set) var descriptor: Int32
  private var path: String?
  /// The socket's file, as `O_PATH` has it: as long as that is open, no other file has its number. -1 where there is
  /// none.
  private var file: Int32 = -1
  /// Given up to turn a client away where the process may have no more descriptors; else the client would stay in the
  /// queue, and be reported again and again.
  private var spare: Int32 = -1
  private var registration = EventRegistration()

  /// One that listens already.
  init(opened descriptor: Int32) throws(TPMError) {
    self.descriptor = descriptor
    path = nil
    try reserveSpare()
  }

  init(adopting descriptor: Int32) throws(TPMError) {
    self.descriptor = descriptor
    path = nil
    try Self.prepare(descriptor, "descriptor \(descriptor)")
    try reserveSpare()
  }

  /// Whether `text` can be bound to without asking a name service.
  static func isNumericAddress(_ text: String) -> Bool {
    guard let info = unsafe resolve(text, "0") else { return false }
    unsafe freeaddrinfo(info)
    return true
  }

  /// To be freed; nil for what is no number.
  private static func resolve(_ address: String, _ port: String) -> UnsafeMutablePointer<addrinfo>? {
    var hints = unsafe addrinfo()
    unsafe hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE
    unsafe hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    var found: UnsafeMutablePointer<addrinfo>?
    return unsafe getaddrinfo(address, port, &hints, &found) == 0 ? found : nil
  }

  /// Listens on TCP. The address is numeric: no name service is asked.
  init(bindAddress: String, port: UInt16) throws(TPMError) {
    let address = "\(bindAddress):\(port)"
    guard let info = unsafe Self.resolve(bindAddress, String(port)) else {
      throw .usage("\"\(bindAddress)\" is not a numeric address to bind to")
    }
    defer { unsafe freeaddrinfo(info) }
    let descriptor = unsafe socket(
      info.pointee.ai_family, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { throw .socket(operation: "socket", address: address, errno: errno) }
    do throws(TPMError) {
      // A server that is started anew must not wait for the old connections' TIME_WAIT to pass.
      var yes: Int32 = 1
      _ = unsafe setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
      try unsafe Self.bind(descriptor, info.pointee.ai_addr, info.pointee.ai_addrlen, address)
      try Self.prepare(descriptor, address)
    } catch {
      close(descriptor)
      throw error
    }
    self.descriptor = descriptor
    path = nil
    try reserveSpare()
  }

  /// Listens on a Unix socket. A socket file that nobody listens on is a dead server's and is replaced, and so is an
  /// empty file of one's own, such as mktemp(1) makes to have a name; a socket that answers, or anything else, is not
  /// touched.
  ///
  /// - Throws: `.addressInUse` where somebody listens, `.obstructed` where something else has the name.
  init(path: String, mode: mode_t, user: uid_t?, group: gid_t?) throws(TPMError) {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let fits = unsafe withUnsafeMutableBytes(of: &address.sun_path) { place in
      guard path.utf8.count < place.count else { return false }
      unsafe place.copyBytes(from: path.utf8)
      return true
    }
    guard fits else { throw .usage("\(path): too long for a Unix socket") }
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { throw .socket(operation: "socket", address: path, errno: errno) }
    var file: Int32 = -1
    do throws(TPMError) {
      try Self.removeStale(path, &address)
      // The file that bind makes takes the socket's own mode, so it is never wider than asked for.
      _ = fchmod(descriptor, mode)
      try unsafe withUnsafePointer(to: &address) { pointer throws(TPMError) in
        try unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer throws(TPMError) in
          try unsafe Self.bind(descriptor, pointer, socklen_t(MemoryLayout<sockaddr_un>.size), path)
        }
      }
      file = try Self.find(path)
      try Self.grant(file, path, mode, user, group)
      try Self.prepare(descriptor, path)
    } catch {
      if file >= 0 { close(file) }
      close(descriptor)
      throw error
    }
    self.descriptor = descriptor
    self.file = file
    // A daemon leaves the folder that it was started in.
    self.path = Path.absolute(path)
    try reserveSpare()
  }

  /// From fcntl.h, which shows them to GNU sources only: `O_PATH`, `AT_EMPTY_PATH`.
  private static let (pathOnly, emptyPath): (Int32, Int32) = (0x20_0000, 0x1000)

  /// The file that bind has made. Never what a link leads to: whoever may write in the folder may have put one there
  /// meanwhile.
  private static func find(_ path: String) throws(TPMError) -> Int32 {
    let file = unsafe open(path, pathOnly | O_NOFOLLOW | O_CLOEXEC)
    guard file >= 0 else { throw .socket(operation: "open", address: path, errno: errno) }
    return file
  }

  /// Gives the socket's file its mode, which bind cut by the umask, and its owner.
  private static func grant(
    _ file: Int32, _ path: String, _ mode: mode_t, _ user: uid_t?, _ group: gid_t?
  ) throws(TPMError) {
    var info = stat()
    guard unsafe fstat(file, &info) == 0 else { throw .socket(operation: "fstat", address: path, errno: errno) }
    guard info.st_mode & S_IFMT == S_IFSOCK else { throw .addressInUse(path) }
    // By the descriptor; fchmod itself takes none that was opened so.
    if info.st_mode & 0o7777 != mode, unsafe chmod("/proc/self/fd/\(file)", mode) != 0 {
      throw .socket(operation: "chmod", address: path, errno: errno)
    }
    guard user != nil || group != nil else { return }
    guard unsafe fchownat(file, "", user ?? uid_t.max, group ?? gid_t.max, emptyPath) == 0 else {
      throw .socket(operation: "chown", address: path, errno: errno)
    }
  }

  deinit { remove() }

  /// Stops listening, and removes a Unix socket's path, unless that is another socket's by now: the next server's,
  /// perhaps.
  func remove() {
    if let path, hasName(path) { _ = unsafe unlink(path) }
    path = nil
    if file >= 0 { close(file) }
    file = -1
    stopListening()
  }

  private func hasName(_ path: String) -> Bool {
    var (own, found) = (stat(), stat())
    return unsafe fstat(file, &own) == 0 && lstat(path, &found) == 0 && own.st_dev == found.st_dev
      && own.st_ino == found.st_ino
  }

  /// Closes the socket alone: its file stays, and another process may have the socket.
  func stopListening() {
    registration.end(of: descriptor)
    if descriptor >= 0 { close(descriptor) }
    if spare >= 0 { close(spare) }
    (descriptor, spare) = (-1, -1)
  }

  /// Has `set` report who comes; nil for nobody.
  func wait(for events: EventSet.Events?, at place: Int, in set: EventSet) {
    registration.wait(for: events, of: descriptor, at: place, in: set)
  }

  private func reserve() { spare = fcntl(descriptor, F_DUPFD_CLOEXEC, 3) }

  private func reserveSpare() throws(TPMError) {
    reserve()
    guard spare >= 0 else { throw .socket(operation: "fcntl", address: path ?? "its address", errno: errno) }
  }

  private static func bind(
    _ descriptor: Int32, _ address: UnsafePointer<sockaddr>, _ length: socklen_t, _ name: String
  ) throws(TPMError) {
    guard unsafe Glibc.bind(descriptor, address, length) == 0 else {
      if errno == EADDRINUSE { throw .addressInUse(name) }
      throw .socket(operation: "bind", address: name, errno: errno)
    }
  }

  /// Lets clients connect, who wait until they are accepted. At once: an address at which nobody listens yet is refused
  /// to clients, and taken for a dead server's by the next one.
  private static func prepare(_ descriptor: Int32, _ name: String) throws(TPMError) {
    guard listen(descriptor, 4) == 0 else {
      if errno == EADDRINUSE { throw .addressInUse(name) }
      throw .socket(operation: "listen", address: name, errno: errno)
    }
    guard fcntl(descriptor, F_SETFL, O_NONBLOCK) == 0 else {
      throw .socket(operation: "fcntl", address: name, errno: errno)
    }
    _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
  }

  private static func removeStale(_ path: String, _ address: inout sockaddr_un) throws(TPMError) {
    var info = stat()
    guard unsafe lstat(path, &info) == 0 else { return }
    guard info.st_mode & S_IFMT == S_IFSOCK else { return try removeEmpty(path, info) }
    let probe = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | O_NONBLOCK, 0)
    guard probe >= 0 else { throw .socket(operation: "socket", address: path, errno: errno) }
    defer { close(probe) }
    let connected = unsafe withUnsafePointer(to: &address) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
        unsafe connect(probe, pointer, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    guard connected != 0, errno == ECONNREFUSED else { throw .addressInUse(path) }
    _ = unsafe unlink(path)
  }

  private static func removeEmpty(_ path: String, _ info: stat) throws(TPMError) {
    let what: String
    switch info.st_mode & S_IFMT {
    case S_IFREG where info.st_size == 0 && info.st_nlink == 1 && info.st_uid == geteuid():
      _ = unsafe unlink(path)
      return
    case S_IFREG: what = info.st_size == 0 ? "a file of another user's, or with other names" : "a file with content"
    case S_IFDIR: what = "a folder"
    case S_IFLNK: what = "a symbolic link"
    case S_IFIFO: what = "a FIFO"
    default: what = "a device"
    }
    throw .obstructed(path: path, by: what)
  }

  /// The next client, or nil where it went away again.
  func accept() -> Connection? {
    let client = Glibc.accept(descriptor, nil, nil)
    if client < 0, errno == EMFILE || errno == ENFILE { turnAway() }
    return client < 0 ? nil : Connection(adopting: client)
  }

  private func turnAway() {
    if spare >= 0 { close(spare) }
    let client = Glibc.accept(descriptor, nil, nil)
    if client >= 0 {
      close(client)
    } else {
      // Nobody on this machine may have one more.
      usleep(10_000)
    }
    reserve()
  }
}
