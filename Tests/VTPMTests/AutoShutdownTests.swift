import Foundation
import TestSupport
import Testing

/// The TPM2_Shutdown that a guest didn't send. Without it a TPM that was asked for something with an authorisation
/// takes the loss of power for an attempt to hide a wrong one, and counts it, until its lockout.
@Suite struct AutoShutdownTests {
  /// An index that the dictionary-attack protection covers (no NO_DA), readable and writable with its own password,
  /// "pw".
  private static let define =
    "8002 0000002f 0000012a 40000001 00000009 40000009 0000 00 0000 0002 7077"
    + "000e 01500001 000b 00040004 0000 0010"
  private static let write =
    "8002 00000035 00000137 01500001 01500001 0000000b 40000009 0000 00 0002 7077 0010"
    + "00112233445566778899aabbccddeeff 0000"
  private static let read = "8002 00000025 0000014e 01500001 01500001 0000000b 40000009 0000 00 0002 7077 0010 0000"
  /// TPM2_GetCapability(TPM_CAP_TPM_PROPERTIES, TPM_PT_LOCKOUT_COUNTER, 1).
  private static let lockoutCounter = "8001 00000016 0000017a 00000006 0000020e 00000001"
  private static let startup = DataChannelTests.startup

  private func counter(_ data: Socket) throws -> UInt32 {
    let answer = data.ask(bytes(Self.lockoutCounter))
    try TestFailure.unless(answer.count == 27, answer.hex)
    return answer.integer(at: 23)
  }

  /// The first authorisation after a start is answered with TPM_RC_RETRY, so that what it means for the count is
  /// stored first.
  private func ask(_ data: Socket, _ command: String) -> String {
    let answer = data.ask(command)
    return answer == "80010000000a00000922" ? data.ask(command) : answer
  }

  private func authorise(_ data: Socket) {
    #expect(ask(data, Self.read).hasPrefix("8002"))
  }

  private func seeded(_ flags: [String]) throws -> TestServer {
    let server = try TestServer(TestDirectory(), flags)
    #expect(try Socket(server, .control).ask("00000002 00000000") == "00000000")
    let data = try Socket(server, .data)
    #expect(data.ask(Self.startup) == "80010000000a00000000")
    #expect(data.ask(Self.define).hasPrefix("8002"))
    #expect(ask(data, Self.write).hasPrefix("8002"))
    #expect(try counter(data) == 0)
    return server
  }

  /// The virtual machine is reset ten times in the middle of its work.
  @Test(arguments: [true, false]) func resets(isSent: Bool) throws {
    let server = try seeded(isSent ? [] : ["--flags", "disable-auto-shutdown"])
    let (data, control) = (try Socket(server, .data), try Socket(server, .control))
    for count in 1...10 as ClosedRange<UInt32> {
      authorise(data)
      #expect(control.ask("00000002 00000000") == "00000000")
      #expect(data.ask(Self.startup) == "80010000000a00000000")
      // The TPM allows three, and then is locked for a thousand seconds.
      if !isSent, count == 3 {
        #expect(try counter(data) == 3)
        #expect(data.ask(Self.read) == "80010000000a00000921")
        return
      }
      #expect(try counter(data) == (isSent ? 0 : count))
    }
  }

  /// Whatever turns the TPM off: STOP, SHUTDOWN, SIGTERM. A SIGKILL gives it no time.
  @Test(arguments: ["stop", "shutdown", "SIGTERM", "SIGKILL"]) func ends(how: String) throws {
    let first = try seeded([])
    let directory = first.directory
    var (data, control): (Socket?, Socket?) = (try Socket(first, .data), try Socket(first, .control))
    if let data { authorise(data) }
    switch how {
    case "stop":
      #expect(control?.ask("0000000e") == "00000000")
      first.kill()
    case "shutdown":
      #expect(control?.ask("00000003") == "00000000")
      #expect(first.wait() == 0)
    case "SIGTERM":
      first.signal(SIGTERM)
      #expect(first.wait() == 0)
    default: first.kill()
    }
    (data, control) = (nil, nil)
    let second = try TestServer(directory, ["--flags", "startup-clear"])
    #expect(try counter(Socket(second, .data)) == (how == "SIGKILL" ? 1 : 0))
  }

  /// A TPM that the guest did shut down, or that was asked for nothing, is not told again: nothing is stored.
  @Test func onlyWhereItIsNeeded() throws {
    let server = try seeded([])
    let (data, control) = (try Socket(server, .data), try Socket(server, .control))
    authorise(data)
    // TPM2_Shutdown(CLEAR).
    #expect(data.ask("8001 0000000c 00000145 0000") == "80010000000a00000000")
    let permall = server.directory.read("state/permall")
    #expect(control.ask("0000000e") == "00000000")
    #expect(server.directory.read("state/permall") == permall)
    #expect(control.ask("00000002 00000000") == "00000000")
    #expect(control.ask("0000000e") == "00000000")
    #expect(server.directory.read("state/permall") == permall)
  }

  /// A TPM whose volatile state was stored is to go on from there, and not to be shut down behind its back.
  @Test func notWhereItIsSuspended() throws {
    let server = try seeded([])
    let (data, control) = (try Socket(server, .data), try Socket(server, .control))
    authorise(data)
    #expect(control.ask("0000000a") == "00000000")
    let permall = server.directory.read("state/permall")
    server.signal(SIGTERM)
    #expect(server.wait() == 0)
    #expect(server.directory.read("state/permall") == permall)
    let next = try TestServer(server.directory)
    #expect(try Socket(next, .control).ask("00000002 00000000") == "00000000")
    // It was started up already.
    #expect(try Socket(next, .data).ask(Self.startup) == "80010000000a00000100")
    #expect(try counter(Socket(next, .data)) == 0)
  }

  /// Where the store is locked it can't be, and the TPM is turned off all the same.
  @Test func notWhereTheStoreIsLocked() throws {
    let server = try seeded([])
    let (data, control) = (try Socket(server, .data), try Socket(server, .control))
    authorise(data)
    try server.directory.write("", "state/pending")
    while !server.log.contains("the key \"test\" is missing") { usleep(1000) }
    #expect(control.ask("0000000e") == "00000000")
    #expect(server.log.contains("the guest didn't send TPM2_Shutdown"))
    server.directory.remove("state/pending")
    #expect(control.ask("00000002 00000000") == "00000000")
  }
}
