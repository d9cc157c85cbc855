// A process that confines itself as a server does, and then tries one thing. For ConfinementTests.
//
//     ConfinementProbe kill|log|none USER|- DIRECTORY ATTEMPT [ARGUMENT]
//
// DIRECTORY is where files may be made. Prints "done", or the number of the error, where it still can.
import Confinement
import Glibc
import ProgramIO

ProcessSetup.run()
do {
  let arguments = CommandLine.arguments
  guard arguments.count >= 5, let action = SystemCallFilter.Action(rawValue: arguments[1]) else { exit(2) }
  var confinement = Confinement()
  confinement.violations = action
  confinement.user = arguments[2] == "-" ? nil : try RunAs(arguments[2])
  confinement.places.allow(.makeFiles, arguments[3])
  confinement.places.allow(.removeFiles, arguments[3])
  confinement.places.allow(.read, "/proc/self/status")
  try confinement.becomeUser()
  for lack in try confinement.apply() { print(lack) }
  let result = Attempt.run(arguments[4], arguments.count > 5 ? arguments[5] : "")
  print(result < 0 ? "error \(errno)" : "done")
  fflush(nil)
} catch {
  print("not confined: \(error)")
  exit(1)
}

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

  /// What the kernel says of this process.
  private static func status() -> Int32 {
    guard let file = try? InputFile(path: "/proc/self/status") else { return -1 }
    var bytes = [UInt8](repeating: 0, count: 1 << 16)
    guard let count = try? file.read(into: bytes.mutableSpan) else { return -1 }
    print(String(decoding: bytes[..<count], as: UTF8.self))
    return 0
  }
}
