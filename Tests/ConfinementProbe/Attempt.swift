// Things that a process may need, or that it must not do, tried by one that is confined.
import Glibc
import ProgramIO

enum Attempt {
  /// Negative, with errno, where it failed.
  static func run(_ attempt: String, _ argument: String) -> Int32 {
    switch attempt {
    case "read": unsafe open(argument, O_RDONLY)
    case "write": unsafe open(argument, O_WRONLY)
    case "make": unsafe open(argument, O_WRONLY | O_CREAT | O_EXCL, 0o600)
    case "remove": unsafe unlink(argument)
    case "list": unsafe opendir(argument) == nil ? -1 : 0
    case "directory": unsafe mkdir(argument, 0o700)
    case "execute": execute(argument)
    case "fork": fork()
    case "thread": thread()
    case "socket": socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    case "bind": unsafe network { unsafe bind($0, $1, $2) }
    case "connect": unsafe network { unsafe connect($0, $1, $2) }
    case "signal": kill(pid_t(argument) ?? -1, 0)
    case "code": code()
    case "root": setuid(0)
    case "status": status()
    case "wait": wait()
    default: -1
    }
  }

  private static func execute(_ path: String) -> Int32 {
    unsafe withUnsafeTemporaryAllocation(of: UnsafeMutablePointer<CChar>?.self, capacity: 2) { list in
      unsafe list[0] = strdup(path)
      unsafe list[1] = nil
      return unsafe list.baseAddress.map { unsafe execv(path, $0) } ?? -1
    }
  }

  private static func thread() -> Int32 {
    var thread = pthread_t()
    let code = unsafe pthread_create(&thread, nil, { _ in nil }, nil)
    return code == 0 ? pthread_join(thread, nil) : -1
  }

  /// TCP to or from port 1 of this host, which nobody has.
  private static func network(
    _ call: (Int32, UnsafePointer<sockaddr>, socklen_t) -> Int32
  ) -> Int32 {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    guard descriptor >= 0 else { return -1 }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = in_port_t(1).bigEndian
    address.sin_addr.s_addr = in_addr_t(0x7F00_0001).bigEndian
    return unsafe withUnsafePointer(to: &address) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
        unsafe call(descriptor, pointer, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
  }

  private static func code() -> Int32 {
    let mapped = unsafe mmap(nil, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    return unsafe mapped == MAP_FAILED ? -1 : 0
  }

  /// Stays, to be looked at.
  private static func wait() -> Int32 {
    print("ready")
    fflush(nil)
    while true { sleep(1) }
  }

  /// What the kernel says of this process.
  private static func status() -> Int32 {
    guard let file = try? InputFile(path: "/proc/self/status") else { return -1 }
    var bytes = [UInt8](repeating: 0, count: 1 << 16)
    guard let count = try? file.read(into: bytes.mutableSpan) else { return -1 }
    print(String(decoding: bytes[..<count], as: UTF8.self))
    return 0
  }
}
