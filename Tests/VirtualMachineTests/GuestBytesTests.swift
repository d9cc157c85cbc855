import Foundation
import TestSupport
import Testing

/// What a guest can make of its TPM by the bytes that it hands over, through QEMU and its devices: commands of every
/// length and of sizes that aren't theirs, another channel's prefix, commands behind each other. Each gets one
/// response, of the size that it names and no longer than the buffer; the TPM goes on; and the registers that only
/// another locality may change are as they were.
@Suite(.enabled(if: QTestMachine.isAvailable, "qemu-system-x86_64 is not there")) struct GuestBytesTests {
  private static let wrongSize: [UInt8] = [0x80, 1, 0, 0, 0, 10, 0, 0, 1, 0x42]
  private static let badLocality: UInt32 = 0x907
  private static let startUp: [UInt8] = [0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x44, 0, 0]
  private static let session: [UInt8] = [0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0]
  /// TPM2_PCR_Reset of PCR 20, which locality 2 may.
  private static let reset: [UInt8] = [0x80, 2, 0, 0, 0, 27, 0, 0, 1, 0x3D, 0, 0, 0, 20] + session
  /// TPM2_PCR_Extend of PCR 17, which localities 2 to 4 may.
  private static let extend: [UInt8] =
    [0x80, 2, 0, 0, 0, 65, 0, 0, 1, 0x82, 0, 0, 0, 17] + session + [0, 0, 0, 1, 0, 0x0B]
    + [UInt8](repeating: 0xAA, count: 32)

  private static func header(_ size: Int, _ code: UInt8 = 0x7B) -> [UInt8] {
    [0x80, 1] + (0..<4).map { UInt8(truncatingIfNeeded: size >> (24 - 8 * $0)) } + [0, 0, 1, code]
  }

  /// A command of a locality's, with the prefix that holds on other channels, and behind it one that fills the buffer.
  private static func prefixed(_ locality: UInt8, _ command: [UInt8], filling size: Int) -> [UInt8] {
    let begin = [0, 0, 0, 8, locality, 0, 0, 0, UInt8(command.count)] + command
    let rest = size - begin.count
    return begin + header(rest) + [UInt8](repeating: 0, count: rest - 10)
  }

  /// A machine on a TPM that was started up, and what has to be as it was in the end.
  private struct Bench {
    let place: Place
    let server: EmulatorServer
    let machine: QTestMachine
    private var before: [[UInt8]] = []

    init(_ device: VirtualMachine.Device) throws {
      place = try Place()
      server = try EmulatorServer(place)
      machine = try QTestMachine(place.folder, tpm: server.socket, device: device)
    }

    mutating func begin(_ tpm: some TPMRegisters) throws {
      #expect(try TPMCommand.code(tpm.run(GuestBytesTests.startUp) ?? []) == 0)
      before = try registers(tpm)
    }

    /// PCRs 0, 17 and 20.
    private func registers(_ tpm: some TPMRegisters) throws -> [[UInt8]] {
      let selections: [[UInt8]] = [[1, 0, 0], [0, 0, 2], [0, 0, 0x10]]
      return try selections.map { selection in
        let command: [UInt8] = [0x80, 1, 0, 0, 0, 20, 0, 0, 1, 0x7E, 0, 0, 0, 1, 0, 0x0B, 3] + selection
        let response = try tpm.run(command) ?? []
        #expect(response.count == 62)
        return Array(response.suffix(32))
      }
    }

    /// A command of eight random bytes gets its own answer.
    func goesOn(_ tpm: some TPMRegisters, after what: @autoclosure () -> String) throws {
      let response = try tpm.run(TPMCommand.getRandom) ?? []
      try TestFailure.unless(response.count == 20 && TPMCommand.code(response) == 0, "\(what()): \(response)")
    }

    func end(_ tpm: some TPMRegisters) throws {
      #expect(try registers(tpm) == before)
      #expect(try TPMCommand.code(tpm.run(GuestBytesTests.reset) ?? []) == GuestBytesTests.badLocality)
      #expect(try TPMCommand.code(tpm.run(GuestBytesTests.extend) ?? []) == GuestBytesTests.badLocality)
      #expect(try registers(tpm) == before)
      #expect(machine.isRunning && server.isRunning, "\(server.log)")
      #expect(!server.log.contains("hung") && !server.log.contains("left"), "\(server.log)")
    }
  }

  /// Every size that a command can name within the buffer, by the device that hands over what it is told.
  @Test func everyLength() throws {
    var bench = try Bench(.crb)
    let tpm = try CommandResponseBuffer(bench.machine)
    try bench.begin(tpm)
    try bench.machine.write(0xFED4_0080, [UInt8](repeating: 0, count: CommandResponseBuffer.size))
    for size in 10...CommandResponseBuffer.size {
      let response = try #require(try tpm.run(Self.header(size)))
      try TestFailure.unless(response != Self.wrongSize, "of \(size) bytes")
      if size % 61 == 0 { try bench.goesOn(tpm, after: "\(size) bytes") }
    }
    try bench.end(tpm)
  }

  /// Sizes that no command has, and such as are beyond the buffer.
  @Test func wrongSizes() throws {
    var bench = try Bench(.crb)
    let tpm = try CommandResponseBuffer(bench.machine)
    try bench.begin(tpm)
    for size in Array(1...9) + [3969, 3970, 4095, 4096, 4097, 0xFFFF, 0x10000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF] {
      #expect(try tpm.run(Self.header(size) + [0, 8]) == Self.wrongSize, "\(size) bytes")
      try bench.goesOn(tpm, after: "\(size) bytes")
    }
    #expect(bench.server.log.contains("its size is not what came"))
    try bench.end(tpm)
    // QEMU 7.2 hands nothing over for a size of 0, and waits for the response. The server is there for others.
    #expect(try tpm.start(Self.header(0)))
    #expect(try tpm.response() == nil)
    let control = try Socket(path: bench.server.socket)
    #expect(control.ask([0, 0, 0, 1]) == [0, 0, 0, 0, 0, 1, 0xFF, 0xFF])
    #expect(bench.machine.isRunning && bench.server.isRunning)
  }

  /// Another channel's prefix, each locality, and commands behind it.
  @Test func prefixes() throws {
    var bench = try Bench(.crb)
    let tpm = try CommandResponseBuffer(bench.machine)
    try bench.begin(tpm)
    for locality: UInt8 in [0, 1, 2, 3, 4, 5, 8, 255] {
      for command in [Self.reset, Self.extend] {
        let bytes = Self.prefixed(locality, command, filling: CommandResponseBuffer.size)
        #expect(try tpm.run(bytes) == Self.wrongSize)
        try bench.goesOn(tpm, after: "a prefix with locality \(locality)")
      }
    }
    // The command of the host's kernel that sets the locality.
    #expect(try TPMCommand.code(tpm.run([0x80, 1, 0, 0, 0, 11, 0x20, 0, 0x10, 0, 2]) ?? []) == 0x101)
    try bench.end(tpm)
  }

  /// By the other device, which takes bytes one by one and looks at the size: what it starts nonetheless.
  @Test func byTheOtherDevice() throws {
    var bench = try Bench(.tis)
    let tpm = try InterfaceSpecification(bench.machine)
    try bench.begin(tpm)
    // It starts a command when 6 bytes are there, or as many as they say.
    for size in 0...9 {
      let bytes = Array(Self.header(size).prefix(max(6, size)))
      #expect(try tpm.run(bytes) == Self.wrongSize, "\(size) bytes")
      try bench.goesOn(tpm, after: "\(size) bytes")
    }
    for size in Array(10...24) + Array(stride(from: 100, to: 4000, by: 389)) + [3967, 3968, 3969, 4095, 4096] {
      let response = try #require(try tpm.run(Self.header(size) + [UInt8](repeating: 0, count: size - 10)))
      #expect(response != Self.wrongSize && response.count <= InterfaceSpecification.size)
      try bench.goesOn(tpm, after: "\(size) bytes")
    }
    let full = [UInt8](repeating: 0, count: InterfaceSpecification.size - 9)
    for size in [4097, 0xFFFF, 0xFFFF_FFFF] {
      #expect(try tpm.run(Self.header(size) + full) == Self.wrongSize, "\(size) bytes")
      try bench.goesOn(tpm, after: "\(size) bytes")
    }
    // Fewer bytes than it says are no command to the device.
    #expect(try tpm.run(Self.header(100)) == nil)
    for locality: UInt8 in [2, 4] {
      let bytes = Self.prefixed(locality, Self.reset, filling: InterfaceSpecification.size)
      #expect(try tpm.run(bytes + [0]) == Self.wrongSize)
      try bench.goesOn(tpm, after: "a prefix with locality \(locality)")
    }
    try bench.end(tpm)
    // What is refused here does something: the device itself has localities 1 to 3 for whoever asks.
    try tpm.giveUp()
    #expect(try TPMCommand.code(InterfaceSpecification(bench.machine, locality: 2).run(Self.reset) ?? []) == 0)
  }
}
