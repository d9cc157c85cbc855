import Foundation
import TestSupport

/// A virtual machine with a TPM, under QEMU's software emulation: Debian's kernel, and a program that runs what it is
/// told (`Guest/init`). Its sockets and its console lie in a folder, under its name. It ends with this object.
final class VirtualMachine: Guest {
  enum Device: String, CaseIterable, Sendable {
    case tis = "tpm-tis"
    case crb = "tpm-crb"
  }

  /// Where Tools/prepare-guest.sh puts what is booted.
  static let guest = URL(fileURLWithPath: #filePath).deletingLastPathComponent().path + "/../../.build/guest"

  /// Whether one can be booted here. Tools/prepare-guest.sh makes what it boots.
  static let isAvailable =
    File.exists(guest + "/initrd") && File.exists(guest + "/vmlinuz")
    && (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":").contains {
      File.exists("\($0)/qemu-system-x86_64")
    }

  /// Spares the kernel to measure clocks and to test ciphers, which takes emulated processors long.
  static let kernelOptions = "console=ttyS0 tsc=reliable no_timer_check lpj=1000000 cryptomgr.notests mitigations=off"

  private let prefix: String
  private let process: Child
  let lines: LineSocket
  private var monitor: QMP?

  /// Starts QEMU with the TPM whose server listens on `tpm`. With `incoming` it waits for another machine's state
  /// there.
  init(
    _ folder: String, tpm: String, device: Device, name: String = "vm", incoming: String? = nil,
    arguments more: [String] = []
  ) throws {
    let prefix = "\(folder)/\(name)"
    self.prefix = prefix
    for end in ["serial", "monitor"] { unsafe unlink("\(prefix).\(end)") }
    var arguments = [
      "qemu-system-x86_64", "-accel", "tcg", "-M", "q35", "-m", "256", "-nodefaults", "-no-user-config",
      "-display", "none", "-kernel", Self.guest + "/vmlinuz", "-initrd", Self.guest + "/initrd",
      "-append", Self.kernelOptions,
      "-serial", "file:\(prefix).console", "-serial", "unix:\(prefix).serial,server=on,wait=off",
      "-qmp", "unix:\(prefix).monitor,server=on,wait=off",
      "-chardev", "socket,id=tpm-socket,path=\(tpm)", "-tpmdev", "emulator,id=tpm,chardev=tpm-socket",
      "-device", "\(device.rawValue),tpmdev=tpm",
    ]
    arguments += more
    if let incoming { arguments += ["-incoming", "unix:\(incoming)"] }
    let process = try Child(arguments, in: folder, merged: true, output: "\(prefix).log")
    self.process = process
    do {
      lines = try LineSocket(path: "\(prefix).serial") { process.isRunning }
    } catch {
      process.kill()
      _ = process.wait()
      throw TestFailure("QEMU: \(process.text)")
    }
    if let incoming { LineSocket.wait(for: incoming) { process.isRunning } }
  }

  deinit {
    process.kill()
    _ = process.wait()
  }

  var isRunning: Bool { process.isRunning }
  var identifier: pid_t { process.identifier }
  /// What QEMU wrote.
  var log: String { process.text }
  var console: String { (try? String(decoding: File.bytes("\(prefix).console"), as: UTF8.self)) ?? "" }

  // MARK: Its end

  /// Powers off as an operating system does; the TPM is told of it by the kernel. QEMU's status.
  func powerOff() -> Int32 {
    lines.send("poweroff -f")
    return process.wait()
  }

  func kill() {
    process.kill()
    _ = process.wait()
  }

  /// QEMU's status when it ends by itself.
  func wait() -> Int32 { process.wait() }

  func failure(_ text: String) -> TestFailure {
    TestFailure("\(text)\nQEMU: \(log)\nconsole:\n\(console.suffix(2000))")
  }

  // MARK: QEMU

  func qmp() throws -> QMP {
    if let monitor { return monitor }
    let made = try QMP(path: "\(prefix).monitor") { isRunning }
    monitor = made
    return made
  }

  /// As a press of the reset button.
  func reset() throws {
    try qmp().run("system_reset")
    try waitUntilUp()
  }

  /// Moves the machine to the one that waits on the socket `path`. Whether it went out whole; what becomes of it there
  /// is for the other one to say.
  func migrate(to path: String) throws -> Bool {
    try qmp().run("migrate", ["uri": "unix:\(path)"])
    for _ in 0..<6000 {
      let state = try qmp().run("query-migrate")
      switch state["status"] as? String {
      case "completed": return true
      case "failed", "cancelled": return false
      default: usleep(10_000)
      }
    }
    throw failure("migration does not end")
  }

  /// Lets a machine that has gone out, but arrived nowhere, go on here.
  func goOn() throws { try qmp().run("cont") }

  /// Ends QEMU as a manager does. Its status.
  func quit() throws -> Int32 {
    try qmp().run("quit")
    return process.wait()
  }
}
