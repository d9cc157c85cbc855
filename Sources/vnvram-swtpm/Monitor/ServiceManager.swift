import Glibc
import VTPM

/// A service manager that wants to know how the server is: systemd, where the unit has `Type=notify` (sd_notify(3)).
///
/// It is told by datagrams to the socket that NOTIFY_SOCKET names, which is connected before the process gives up its
/// rights. Nothing waits for it, and a message that it doesn't take is lost.
final class ServiceManager {
  private static let variable = "NOTIFY_SOCKET"

  private let descriptor: Int32
  private var status = ""
  private var isStopping = false

  private init(_ descriptor: Int32) { self.descriptor = descriptor }

  deinit { close(descriptor) }

  /// The one that started this process; nil where none did. Programs that are started from now on don't hear of it.
  static func ofEnvironment(_ log: Log) -> ServiceManager? {
    guard let value = unsafe getenv(variable) else { return nil }
    let name = unsafe String(cString: value)
    _ = unsafe unsetenv(variable)
    guard !name.isEmpty else { return nil }
    guard let descriptor = connected(name) else {
      log.line("\(variable)=\(name): can't be reached, and who started the server isn't told how it is")
      return nil
    }
    return ServiceManager(descriptor)
  }

  /// - Parameter name: a path, or @ and the name of an abstract socket.
  private static func connected(_ name: String) -> Int32? {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    var bytes = Array(name.utf8)
    let isAbstract = bytes.first == UInt8(ascii: "@")
    guard isAbstract || bytes.first == UInt8(ascii: "/") else { return nil }
    if isAbstract { bytes[0] = 0 }
    let fits = unsafe withUnsafeMutableBytes(of: &address.sun_path) { place in
      guard bytes.count < place.count else { return false }
      unsafe place.copyBytes(from: bytes)
      return true
    }
    guard fits else { return nil }
    // An abstract name is as long as the address says.
    let length = MemoryLayout<sa_family_t>.size + bytes.count + (isAbstract ? 0 : 1)
    let descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { return nil }
    let result = unsafe withUnsafePointer(to: &address) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
        unsafe connect(descriptor, pointer, socklen_t(length))
      }
    }
    guard result == 0 else {
      close(descriptor)
      return nil
    }
    return descriptor
  }

  // MARK: What it is told

  /// Clients are served.
  func ready() { send(["READY=1"]) }

  /// As `ready`, by the process that was started, which ends now: the server goes on in another one.
  func ready(in process: pid_t) { send(["READY=1", "MAINPID=\(process)"]) }

  func stopping() {
    guard !isStopping else { return }
    isStopping = true
    send(["STOPPING=1"])
  }

  /// In words for people, where they are others than before.
  func status(_ text: String) {
    guard text != status, !isStopping else { return }
    status = text
    send(["STATUS=\(text)"])
  }

  /// Names come from an image: none of them makes a line of its own.
  private func send(_ lines: [String]) {
    let bytes = Array(lines.map(Log.printable).joined(separator: "\n").utf8)
    let flags = Int32(MSG_DONTWAIT) | Int32(MSG_NOSIGNAL)
    _ = unsafe bytes.withUnsafeBytes { unsafe Glibc.send(descriptor, $0.baseAddress, $0.count, flags) }
  }
}
