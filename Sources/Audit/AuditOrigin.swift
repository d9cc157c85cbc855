import Glibc
import Primitives

/// Who writes records, as the kernel knows it, asked once: a confined process can't ask any more.
struct AuditOrigin: Sendable {
  /// The program's file.
  private let program: String
  /// What of it runs: `slot add`.
  private let subcommand: String?
  /// Who logged in, whoever one has become since (pam_loginuid(8)). Nil where nobody did, as in a service, or the
  /// kernel doesn't say.
  private let loginUser: UInt32?
  /// Which of the host's starts this is: a process number means something within one only.
  private let boot: String?

  init(subcommand: String?) {
    self.subcommand = subcommand
    program = Self.programPath()
    // -1 for nobody.
    loginUser = Self.text("/proc/self/loginuid").flatMap { UInt32($0) }.flatMap { $0 == UInt32.max ? nil : $0 }
    boot = Self.text("/proc/sys/kernel/random/boot_id")
  }

  /// The members that every record ends with.
  var members: [(String, JSON)] {
    var members: [(String, JSON)] = [("uid", .integer(Int64(getuid())))]
    if let loginUser { members.append(("login_uid", .integer(Int64(loginUser)))) }
    members.append(("pid", .integer(Int64(getpid()))))
    if let boot { members.append(("boot_id", .string(boot))) }
    members.append(("program", .string(program)))
    if let subcommand { members.append(("subcommand", .string(subcommand))) }
    return members
  }

  private static func text(_ path: String) -> String? {
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: 64)
    let count = unsafe read(descriptor, &bytes, bytes.count)
    guard count > 0 else { return nil }
    let line = bytes[..<count].prefix { $0 != 0x0A }
    return line.isEmpty ? nil : String(decoding: line, as: UTF8.self)
  }

  private static func programPath() -> String {
    unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: 4096) { buffer in
      guard let base = buffer.baseAddress else { return "unknown" }
      let count = unsafe readlink("/proc/self/exe", base, buffer.count)
      guard count > 0 else { return "unknown" }
      let bytes = unsafe buffer.prefix(count).map { UInt8(bitPattern: $0) }
      return String(decoding: bytes, as: UTF8.self)
    }
  }
}
