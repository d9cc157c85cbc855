import Foundation
import TestSupport
import Testing

/// A store that isn't ready yet: the sockets are there, who needs the TPM waits, who doesn't is answered.
@Suite struct PendingTests {
  static let probe = "8001 0000000a 00000181"
  static let failure = "80010000000a00000101"

  private func pending(_ arguments: [String] = []) throws -> (TestDirectory, TestServer) {
    let directory = try TestDirectory()
    try FileManager.default.createDirectory(
      atPath: "\(directory.path)/state", withIntermediateDirectories: true)
    try directory.write("", "state/pending")
    return (directory, try TestServer(directory, arguments))
  }

  @Test func initWaitsForTheStore() throws {
    let (directory, server) = try pending()
    let (data, control) = (try Socket(server, .data), try Socket(server, .control))
    #expect(data.ask(Self.probe) == Self.failure)
    #expect(control.ask("00000001") == "000000000001ffff")
    control.send(bytes("00000002 00000000"))
    #expect(!control.hasInput(within: 100))
    // The probe is answered still; a command waits.
    #expect(data.ask(Self.probe) == Self.failure)
    data.send(bytes(DataChannelTests.startup))
    #expect(!data.hasInput(within: 100))
    #expect(server.log.contains("the key \"test\" is missing"))
    #expect(directory.read("state/permall") == nil)
    directory.remove("state/pending")
    #expect(control.receive().hex == "00000000")
    #expect(data.receive().hex == "80010000000a00000000")
  }

  @Test func startsByItselfWhenReady() throws {
    let (directory, server) = try pending(["--flags", "startup-clear"])
    var data: Socket? = try Socket(server, .data)
    data?.send(bytes(DataChannelTests.family))
    #expect(data?.hasInput(within: 100) == false)
    directory.remove("state/pending")
    #expect(data?.receive().hex == DataChannelTests.familyAnswer)
    data = nil
    #expect(try server.tpm2("tpm2_getrandom", "--hex", "4").status == 0)
  }

  /// While one client waits for INIT another can ask, and stop the waiting.
  @Test func aSecondClientWhileOneWaits() throws {
    let (directory, server) = try pending()
    let first = try Socket(server, .control)
    first.send(bytes("00000002 00000000"))
    let second = try Socket(server, .control)
    #expect(second.ask("00000001") == "000000000001ffff")
    #expect(second.ask("0000000e") == "00000000")
    #expect(first.receive().hex == "00000009")
    directory.remove("state/pending")
    #expect(first.ask("00000002 00000000") == "00000000")
  }

  @Test func shutdownWhileOneWaits() throws {
    let (_, server) = try pending()
    let first = try Socket(server, .control)
    first.send(bytes("00000002 00000000"))
    let second = try Socket(server, .control)
    #expect(second.ask("00000003") == "00000000")
    #expect(first.receive().hex == "00000009")
    #expect(server.wait() == 0)
  }

  /// Clients that wait leave one place, for one who doesn't.
  @Test func shutdownWhileTwoWait() throws {
    let (_, server) = try pending()
    let waiting = try (0..<2).map { _ in
      let client = try Socket(server, .control)
      client.send(bytes("00000002 00000000"))
      // Answered only when that one is held.
      #expect(try Socket(server, .control).ask("00000001") == "000000000001ffff")
      return client
    }
    let third = try Socket(server, .control)
    #expect(third.ask("00000002 00000000") == "00000009")
    #expect(third.ask("00000013 00000001") == "00000009")
    for client in waiting { #expect(!client.hasInput(within: 20)) }
    #expect(third.ask("00000003") == "00000000")
    for client in waiting { #expect(client.receive().hex == "00000009") }
    #expect(server.wait() == 0)
  }

  /// The TPM is powered on while a state is on its way, which was allowed when it began.
  @Test func theKeyComesWithinAState() throws {
    let (directory, server) = try pending(["--flags", "startup-clear"])
    let (data, control) = (try Socket(server, .data), try Socket(server, .control))
    control.send(bytes("0000000d 00000000 00000001 00000064 0201"))
    #expect(!control.hasInput(within: 100))
    directory.remove("state/pending")
    #expect(data.ask(DataChannelTests.family) == DataChannelTests.familyAnswer)
    control.send([UInt8](repeating: 0, count: 98))
    #expect(control.receive().hex == "0000000a")
    #expect(control.ask("00000004") == "0000000000000000")
    #expect(data.ask(DataChannelTests.family) == DataChannelTests.familyAnswer)
  }

  /// Who asked for INIT and left isn't waited for: the TPM stays off.
  @Test func theWaitingClientLeaves() throws {
    let (directory, server) = try pending()
    var first: Socket? = try Socket(server, .control)
    first?.send(bytes("00000002 00000000"))
    let second = try Socket(server, .control)
    // Answered only when the first is held.
    #expect(second.ask("00000001") == "000000000001ffff")
    first = nil
    // The one that left is noticed in its turn; then commands are refused and don't wait any more.
    let data = try Socket(server, .data)
    #expect(data.ask(DataChannelTests.startup) == Self.failure)
    directory.remove("state/pending")
    #expect(second.ask("00000004") == "0000000a")
    #expect(directory.read("state/permall") == nil)
  }

  /// A command whose client left while it waited is not run.
  @Test func theWaitingCommandsClientLeaves() throws {
    let (directory, server) = try pending(["--flags", "startup-clear"])
    var data: Socket? = try Socket(server, .data)
    data?.send(bytes(StoreFaultTests.define(7)))
    #expect(data?.hasInput(within: 50) == false)
    data = nil
    let next = try Socket(server, .data)
    // Answered at once: so the first one's place is free.
    #expect(next.ask(Self.probe) == Self.failure)
    directory.remove("state/pending")
    #expect(next.ask(StoreFaultTests.define(7)).hasPrefix("8002"))
  }

  @Test(arguments: [[], ["--flags", "not-need-init"]]) func givesUp(flags: [String]) throws {
    let (directory, server) = try pending(flags + ["--key-timeout", "1"])
    let control = try Socket(server, .control)
    control.send(bytes("00000002 00000000"))
    #expect(control.receive().hex == "00000009")
    #expect(server.wait() == 13)
    #expect(server.log.contains("gave up waiting after 1 s"))
    #expect(directory.read("state/permall") == nil)
    #expect(directory.names == ["log", "state", "work"])
  }

  /// While INIT waits the store fails: it is refused, and the server's end says why.
  @Test func aWrongKeyForGood() throws {
    let (directory, server) = try pending()
    let control = try Socket(server, .control)
    control.send(bytes("00000002 00000000"))
    // Answered only when the first is held.
    #expect(try Socket(server, .control).ask("00000001") == "000000000001ffff")
    try directory.write("4", "state/failed")
    #expect(control.receive().hex == "00000021")
    #expect(control.ask("00000002 00000000") == "00000021")
    #expect(control.ask("00000003") == "00000000")
    #expect(server.wait() == 4)
    #expect(directory.read("state/permall") == nil)
  }

  /// A store that refuses is asked again at each INIT; until one succeeds, the server's end is the refusal's.
  @Test(arguments: [false, true]) func refused(andAskedAgain: Bool) throws {
    let directory = try TestDirectory()
    try FileManager.default.createDirectory(atPath: "\(directory.path)/state", withIntermediateDirectories: true)
    try directory.write("3", "state/refused")
    let server = try TestServer(directory, [])
    let (data, control) = (try Socket(server, .data), try Socket(server, .control))
    #expect(data.ask(Self.probe) == Self.failure)
    #expect(server.log.contains("refused on purpose"), "said before anybody asks for INIT")
    #expect(data.ask(DataChannelTests.startup) == Self.failure)
    for _ in 0..<2 { #expect(control.ask("00000002 00000000") == "0000000d") }
    #expect(control.ask("00000001") == "000000000001ffff")
    if andAskedAgain {
      directory.remove("state/refused")
      #expect(data.ask(DataChannelTests.startup) == Self.failure)
      #expect(control.ask("00000002 00000000") == "00000000")
      #expect(data.ask(DataChannelTests.startup) == "80010000000a00000000")
    }
    #expect(control.ask("00000003") == "00000000")
    #expect(server.wait() == (andAskedAgain ? 0 : 3))
    #expect((directory.read("state/permall") != nil) == andAskedAgain)
  }

  /// Who was to power on by itself ends instead.
  @Test func refusedByItself() throws {
    let directory = try TestDirectory()
    try FileManager.default.createDirectory(atPath: "\(directory.path)/state", withIntermediateDirectories: true)
    try directory.write("6", "state/refused")
    let server = try TestServer(directory, ["--flags", "not-need-init"])
    #expect(server.wait() == 6)
    #expect(server.log.contains("refused on purpose"))
    #expect(directory.read("state/permall") == nil)
  }
}
