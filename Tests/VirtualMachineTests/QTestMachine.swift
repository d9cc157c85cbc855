import Foundation
import TestSupport

/// QEMU with a TPM and a processor that is stopped: its registers are written and read by the test itself (qtest), as a
/// driver in a guest could, or one that means ill. It ends with this object.
final class QTestMachine {
  static let isAvailable = (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":").contains {
    File.exists("\($0)/qemu-system-x86_64")
  }

  private let process: Child
  private let lines: LineSocket

  init(_ folder: String, tpm: String, device: VirtualMachine.Device) throws {
    let path = "\(folder)/qtest"
    unsafe unlink(path)
    let process = try Child(
      [
        "qemu-system-x86_64", "-M", "q35", "-accel", "tcg", "-S", "-m", "64", "-nodefaults", "-no-user-config",
        "-display",
        "none", "-qtest", "unix:\(path),server=on,wait=off", "-qtest-log", "/dev/null",
        "-chardev", "socket,id=tpm-socket,path=\(tpm)", "-tpmdev", "emulator,id=tpm,chardev=tpm-socket",
        "-device", "\(device.rawValue),tpmdev=tpm",
      ], in: folder, merged: true, output: "\(folder)/qemu.log")
    self.process = process
    do {
      lines = try LineSocket(path: path) { process.isRunning }
    } catch {
      process.kill()
      _ = process.wait()
      throw TestFailure("QEMU: \(process.text)")
    }
  }

  deinit {
    process.kill()
    _ = process.wait()
  }

  var isRunning: Bool { process.isRunning }
  var log: String { process.text }

  // MARK: Its memory

  @discardableResult
  private func ask(_ command: String) throws -> Substring {
    lines.send(command)
    guard let answer = try lines.line(within: 60), answer.hasPrefix("OK") else {
      throw TestFailure("QEMU doesn't answer: \(command.prefix(40)); \(log)")
    }
    return answer.dropFirst(3)
  }

  func write(_ address: Int, byte: UInt8) throws { try ask("writeb \(address) \(byte)") }
  func write(_ address: Int, word: UInt32) throws { try ask("writel \(address) \(word)") }

  func write(_ address: Int, _ bytes: [UInt8]) throws {
    guard !bytes.isEmpty else { return }
    try ask("write \(address) \(bytes.count) 0x\(bytes.map { String(format: "%02x", $0) }.joined())")
  }

  func byte(_ address: Int) throws -> UInt8 { UInt8(truncatingIfNeeded: try number("readb \(address)")) }
  func word(_ address: Int) throws -> UInt32 { UInt32(truncatingIfNeeded: try number("readl \(address)")) }

  private func number(_ command: String) throws -> UInt64 {
    let answer = try ask(command)
    guard let number = UInt64(answer.dropFirst(2), radix: 16) else { throw TestFailure("qtest: \(answer)") }
    return number
  }

  func read(_ address: Int, count: Int) throws -> [UInt8] {
    let digits = try ask("read \(address) \(count)").dropFirst(2).utf8.map { UInt8($0 < 58 ? $0 - 48 : $0 - 87) }
    return stride(from: 0, to: digits.count - 1, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
  }
}

/// A TPM's registers, and how a driver has a command run by them.
protocol TPMRegisters {
  /// Hands the bytes over and starts the command. False where the device starts nothing of the kind.
  func start(_ bytes: [UInt8]) throws -> Bool
  /// The response, once there is one; nil while there is none.
  func response() throws -> [UInt8]?
}

extension TPMRegisters {
  /// Runs a command; nil where the device starts nothing of the kind.
  func run(_ bytes: [UInt8]) throws -> [UInt8]? {
    guard try start(bytes) else { return nil }
    for _ in 0..<20_000 {
      if let response = try response() { return response }
      usleep(1000)
    }
    throw TestFailure("no response within 20 s to \(bytes.prefix(16))")
  }
}

/// TCG PC Client Platform TPM Profile, 6.5.3: the command response buffer, locality 0.
struct CommandResponseBuffer: TPMRegisters {
  let machine: QTestMachine
  private static let base = 0xFED4_0000
  static let size = 3968
  private var start: Int { Self.base + 0x4C }
  private var data: Int { Self.base + 0x80 }

  init(_ machine: QTestMachine) throws {
    self.machine = machine
    // Locality 0 is asked for.
    try machine.write(Self.base + 0x08, word: 1)
  }

  /// `bytes` begin the buffer; the rest of it is as it was.
  func start(_ bytes: [UInt8]) throws -> Bool {
    try machine.write(Self.base + 0x40, word: 1)
    try machine.write(data, Array(bytes.prefix(Self.size)))
    try machine.write(start, word: 1)
    return true
  }

  func response() throws -> [UInt8]? {
    guard try machine.word(start) & 1 == 0 else { return nil }
    let size = try machine.read(data + 2, count: 4).reduce(0) { $0 << 8 | Int($1) }
    try TestFailure.unless((10...Self.size).contains(size), "a response of \(size) bytes")
    return try machine.read(data, count: size)
  }
}

/// TCG PC Client Platform TPM Profile, 6.5.2: the interface of TIS, by one locality.
struct InterfaceSpecification: TPMRegisters {
  let machine: QTestMachine
  private let base: Int
  static let size = 4096

  init(_ machine: QTestMachine, locality: Int = 0) throws {
    self.machine = machine
    base = 0xFED4_0000 + locality << 12
    try machine.write(base, byte: 2)
    try TestFailure.unless(machine.byte(base) & 0x20 != 0, "locality \(locality) isn't had")
  }

  func giveUp() throws { try machine.write(base, byte: 0x20) }

  private func status() throws -> UInt8 { try machine.byte(base + 0x18) }

  func start(_ bytes: [UInt8]) throws -> Bool {
    // Twice: the first one ends what was.
    for _ in 0..<2 { try machine.write(base + 0x18, byte: 0x40) }
    let whole = bytes.count / 4 * 4
    for i in stride(from: 0, to: whole, by: 4) {
      let word = UInt32(bytes[i]) | UInt32(bytes[i + 1]) << 8 | UInt32(bytes[i + 2]) << 16 | UInt32(bytes[i + 3]) << 24
      try machine.write(base + 0x24, word: word)
    }
    for byte in bytes[whole...] { try machine.write(base + 0x24, byte: byte) }
    // It expects more: nothing would be started.
    guard try status() & 0x08 == 0 else { return false }
    try machine.write(base + 0x18, byte: 0x20)
    return true
  }

  func response() throws -> [UInt8]? {
    guard try status() & 0x90 == 0x90 else { return nil }
    var bytes: [UInt8] = []
    while bytes.count < Self.size, try status() & 0x10 != 0 { bytes.append(try machine.byte(base + 0x24)) }
    return bytes
  }
}
