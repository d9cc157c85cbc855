import Foundation
import TestSupport
import Testing

/// A store that is locked while the TPM runs. The file `pending` makes it say so beforehand; a store that fails for
/// want of a key (status 3) makes it lock in the middle of a command.
@Suite struct LockedStoreTests {
  static let unavailable = "80010000000a00000923"
  static let getRandom = "8001 0000000c 0000017b 0008"
  /// TPM2_PCR_Extend and TPM2_PCR_Read of PCR 16.
  static let extend =
    "8002 00000041 00000182 00000010 00000009 40000009 0000 00 0000 00000001 000b" + String(repeating: "5a", count: 32)
  static let readPCR = "8001 00000014 0000017e 00000001 000b 03 000001"

  private func locked(_ arguments: [String] = []) throws -> (server: TestServer, data: Socket) {
    let server = try TestServer(TestDirectory(), ["--flags", "startup-clear"] + arguments)
    let data = try Socket(server, .data)
    #expect(data.ask(StoreFaultTests.define(0)).hasPrefix("8002"))
    try lock(server)
    return (server, data)
  }

  private func lock(_ server: TestServer) throws {
    try server.directory.write("", "state/pending")
    while !server.log.contains("the key \"test\" is missing") { usleep(1000) }
  }

  private func unlock(_ server: TestServer) {
    server.directory.remove("state/pending")
    while !server.log.contains("the store is open") { usleep(1000) }
  }

  @Test func whatMayStoreIsUnavailableAndComesBack() throws {
    let (server, data) = try locked()
    let permall = server.directory.read("state/permall")
    for _ in 0..<3 { #expect(data.ask(StoreFaultTests.define(1)) == Self.unavailable) }
    #expect(server.directory.read("state/permall") == permall)
    // What keeps nothing in NV goes on, measurements above all.
    let before = data.ask(Self.readPCR)
    #expect(data.ask(Self.getRandom).hasPrefix("8001000000140000000000"))
    #expect(data.ask(Self.extend).hasPrefix("80020000001300000000"))
    #expect(data.ask(Self.readPCR) != before)
    #expect(data.ask(DataChannelTests.family) == DataChannelTests.familyAnswer)
    unlock(server)
    // Nothing had happened: the index isn't there. And it is the same TPM, without a restart.
    #expect(data.ask(StoreFaultTests.define(1)).hasPrefix("8002"))
    #expect(data.ask(StoreFaultTests.define(0)) == "80010000000a0000014c")
    #expect(server.directory.read("state/permall") != permall)
    #expect(!server.log.contains("failure mode"))
  }

  /// The store locks between the question and the command: the guest hears that NV is unavailable, and libtpms isn't in
  /// failure mode. What it did is kept, and stored first when that can be.
  @Test func lockedInTheMiddleOfACommand() throws {
    let server = try TestServer(TestDirectory(), ["--flags", "startup-clear"])
    let data = try Socket(server, .data)
    #expect(data.ask(StoreFaultTests.define(0)).hasPrefix("8002"))
    let permall = server.directory.read("state/permall")
    try server.directory.write("3", "state/fail-store")
    #expect(data.ask(StoreFaultTests.define(1)) == Self.unavailable)
    #expect(data.ask(StoreFaultTests.define(2)) == Self.unavailable)
    #expect(data.ask(Self.getRandom).hasPrefix("8001000000140000000000"))
    #expect(server.directory.read("state/permall") == permall)
    server.directory.remove("state/fail-store")
    #expect(data.ask(StoreFaultTests.define(2)).hasPrefix("8002"))
    server.kill()
    let next = try TestServer(server.directory, ["--flags", "startup-clear"])
    let again = try Socket(next, .data)
    // The one under way has happened; the one after it was never run.
    for n: UInt8 in [0, 1, 2] { #expect(again.ask(StoreFaultTests.define(n)) == "80010000000a0000014c") }
  }

  /// And when that store turns out to be broken for good, nothing more is claimed.
  @Test func lockedAndThenBroken() throws {
    let server = try TestServer(TestDirectory(), ["--flags", "startup-clear"])
    let (data, control) = (try Socket(server, .data), try Socket(server, .control))
    #expect(data.ask(StoreFaultTests.define(0)).hasPrefix("8002"))
    try server.directory.write("5", "state/fail-store")
    #expect(data.ask(StoreFaultTests.define(1)) == Self.unavailable)
    try server.directory.write("11", "state/fail-store")
    for command in [StoreFaultTests.define(2), Self.getRandom, DataChannelTests.family] {
      #expect(data.ask(command) == "80010000000a00000101")
    }
    #expect(server.log.contains("failure mode until it is started anew"))
    server.directory.remove("state/fail-store")
    #expect(data.ask(Self.getRandom) == "80010000000a00000101")
    // INIT starts from what is stored.
    #expect(control.ask(StoreFaultTests.initialize) == "00000000")
    #expect(data.ask(DataChannelTests.startup) == "80010000000a00000000")
    #expect(data.ask(StoreFaultTests.define(1)).hasPrefix("8002"))
  }

  /// After TPM2_Shutdown libtpms has to take back what that stored before anything else: nothing runs.
  @Test func afterAShutdown() throws {
    let server = try TestServer(TestDirectory(), ["--flags", "startup-clear"])
    let data = try Socket(server, .data)
    #expect(data.ask("8001 0000000c 00000145 0001") == "80010000000a00000000")
    try lock(server)
    #expect(data.ask(Self.extend) == Self.unavailable)
    #expect(data.ask(Self.getRandom) == Self.unavailable)
    unlock(server)
    #expect(data.ask(Self.extend).hasPrefix("8002"))
  }

  /// A reset while the store is locked: INIT waits for the key, and no command runs in the meantime.
  @Test func resetWhileLocked() throws {
    let (server, data) = try locked()
    let control = try Socket(server, .control)
    control.send(bytes(StoreFaultTests.initialize))
    #expect(!control.hasInput(within: 100))
    data.send(bytes(DataChannelTests.startup))
    #expect(!data.hasInput(within: 100))
    unlock(server)
    #expect(control.receive().hex == "00000000")
    #expect(data.receive().hex == "80010000000a00000000")
    #expect(data.ask(StoreFaultTests.define(0)) == "80010000000a0000014c")
  }

  /// The control channel: what would store is refused and changes nothing, what wouldn't is answered.
  @Test func theControlChannelMeanwhile() throws {
    let (server, data) = try locked()
    let control = try Socket(server, .control)
    #expect(control.ask("00000004") == "0000000000000000")
    #expect(control.ask("0000000a") == "0000000d")
    #expect(control.ask("0000000c 00000001 00000002 00000000") == "0000000d000000000000000000000000")
    #expect(control.ask("0000000c 00000001 00000001 00000000") == "0000000d000000000000000000000000")
    #expect(control.ask("00000001") == "000000000001ffff")
    unlock(server)
    #expect(control.ask("0000000a") == "00000000")
    #expect(data.ask(StoreFaultTests.define(1)).hasPrefix("8002"))
  }

  /// A TPM 1.2 says TPM_RETRY, which its clients know.
  @Test func tpm12() throws {
    let server = try TestServer(TestDirectory(), ["--tpm1.2", "--flags", "startup-clear"])
    let data = try Socket(server, .data)
    #expect(data.ask("00c1 0000000e 00000046 00000004").hasPrefix("00c40000001200000000"))
    try lock(server)
    #expect(data.ask("00c1 0000000a 00000098") == "00c40000000a00000800")
    #expect(data.ask("00c1 0000000e 00000046 00000004").hasPrefix("00c40000001200000000"))
    unlock(server)
    #expect(data.ask("00c1 0000000a 00000098") == "00c40000000a00000000")
  }
}
