import Foundation
import TestSupport

/// What a virtual machine monitor does with its TPM: it has connected to the control channel, handed over one end of a
/// socket pair for commands, and powered the TPM on; the firmware has sent TPM2_Startup.
final class PlayedMachine {
  let control: Socket
  private let data: Socket

  static let done: [UInt8] = [0, 0, 0, 0]
  private static let stop: [UInt8] = [0, 0, 0, 0xE]
  private static let initialize: [UInt8] = [0, 0, 0, 2, 0, 0, 0, 0]
  private static let startUp: [UInt8] = [0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x44, 0, 0]

  /// In which order it asks. QEMU's is what 7.2 was seen to send; cloud-hypervisor's is that of its
  /// tpm/src/emulator.rs.
  enum Monitor {
    case qemu
    case cloudHypervisor
  }

  /// Connects where the server listens, and waits for that for as long as the server runs.
  ///
  /// - Throws: where INIT is refused, with its result.
  init(_ socket: String, _ monitor: Monitor = .qemu, while server: Child? = nil) throws {
    control = try Self.connect(socket, while: server)
    let (ours, theirs) = try Socket.pair()
    data = ours
    control.send([0, 0, 0, 0x10], passing: [theirs])
    close(theirs)
    try Self.expect(control.receive(), Self.done, "SET_DATAFD")
    switch monitor {
    case .qemu:
      // Which TPM it is; before INIT, and answered by the tag.
      let probe = data.ask([0x80, 1, 0, 0, 0, 10, 0, 0, 1, 0x81])
      try Self.expect(Array(probe.prefix(2)), [0x80, 1], "the probe")
      try expectCapabilities()
    case .cloudHypervisor:
      try expectCapabilities()
      let established = control.ask([0, 0, 0, 4])
      try Self.expect(Array(established.prefix(5)), [0, 0, 0, 0, 0], "GET_TPMESTABLISHED")
    }
    try powerOn()
    if monitor == .qemu {
      let established = control.ask([0, 0, 0, 4])
      try Self.expect(Array(established.prefix(4)), Self.done, "GET_TPMESTABLISHED")
      try Self.expect(control.ask([0, 0, 0, 5, 0, 0, 0, 0]), Self.done, "SET_LOCALITY")
    }
  }

  private static func connect(_ socket: String, while server: Child?) throws -> Socket {
    for _ in 0..<10_000 {
      if let client = try? Socket(path: socket) { return client }
      try TestFailure.unless(server?.isRunning ?? true, "no server at \(socket): \(server?.text ?? "")")
      usleep(2000)
    }
    throw TestFailure("no server at \(socket)")
  }

  private static func expect(_ response: [UInt8], _ expected: [UInt8], _ what: String) throws {
    try TestFailure.unless(response == expected, "\(what): \(response)")
  }

  /// GET_CAPABILITY: INIT, SHUTDOWN, …, as both ask for at least.
  private func expectCapabilities() throws {
    let response = control.ask([0, 0, 0, 1])
    let capabilities = response.reduce(0 as UInt64) { $0 << 8 | UInt64($1) }
    try TestFailure.unless(response.count == 8 && capabilities & 0x348F == 0x348F, "GET_CAPABILITY: \(response)")
  }

  /// STOP, SET_BUFFERSIZE, INIT, and what the firmware sends.
  private func powerOn() throws {
    try Self.expect(control.ask(Self.stop), Self.done, "STOP")
    let size = control.ask([0, 0, 0, 0x11, 0, 0, 0x0F, 0x80])
    try Self.expect(Array(size.prefix(4)), Self.done, "SET_BUFFERSIZE")
    try Self.expect(control.ask(Self.initialize), Self.done, "INIT")
    try data.run(Self.startUp)
  }

  /// The guest is restarted by itself or by its manager; the process of the machine goes on.
  func reboot() throws { try powerOn() }

  /// The guest keeps a byte in its TPM.
  func keep(_ byte: UInt8, isNew: Bool = false) throws {
    if isNew { try data.run(TPMCommand.defineIndex) }
    try data.run(TPMCommand.write(byte))
  }

  /// Whether it has it.
  func has(_ byte: UInt8) throws -> Bool {
    try data.index() == [UInt8](repeating: byte, count: TPMCommand.indexSize)
  }

  /// As QEMU ends: it asks for the end of its TPM's server, and hangs up.
  func shutDown() throws { try Self.expect(control.ask([0, 0, 0, 3]), Self.done, "SHUTDOWN") }

  /// INIT alone, from a client that stays for its answer only.
  static func initialize(_ socket: String, while server: Child? = nil) throws -> [UInt8] {
    try connect(socket, while: server).ask(initialize)
  }
}
