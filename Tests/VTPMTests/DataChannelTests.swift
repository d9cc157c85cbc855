import Foundation
import TestSupport
import Testing

/// How TPM commands are cut out of a stream, and what becomes of a stream that isn't one.
@Suite struct DataChannelTests {
  static let startup = "8001 0000000c 00000144 0000"
  /// TPM2_GetCapability(TPM_CAP_TPM_PROPERTIES, TPM_PT_FAMILY_INDICATOR, 1), answered with "2.0".
  static let family = "8001 00000016 0000017a 00000006 00000100 00000001"
  static let familyAnswer = "80010000001b00000000010000000600000001" + "00000100322e3000"

  @Test(arguments: TestServer.Transport.allCases) func commandsInPiecesAndTogether(
    transport: TestServer.Transport
  ) throws {
    let server = try TestServer(TestDirectory(), ["--flags", "startup-clear"], over: transport)
    let client = try Socket(server, .data)
    #expect(client.ask(Self.family) == Self.familyAnswer)
    for byte in bytes(Self.family) {
      client.send([byte])
      usleep(1000)
    }
    #expect(client.receive().hex == Self.familyAnswer)
    // One and a half commands, then the rest.
    let command = bytes(Self.family)
    client.send(command + command.prefix(12))
    #expect(client.receive().hex == Self.familyAnswer)
    client.send(Array(command.dropFirst(12)))
    #expect(client.receive().hex == Self.familyAnswer)
  }

  @Test func offAnswersFailure() throws {
    let server = try TestServer(TestDirectory())
    let client = try Socket(server, .data)
    #expect(client.ask("8001 0000000a 00000181") == "80010000000a00000101")
    #expect(client.ask(Self.startup) == "80010000000a00000101")
    let control = try Socket(server, .control)
    #expect(control.ask("00000002 00000000") == "00000000")
    #expect(client.ask(Self.startup) == "80010000000a00000000")
    #expect(control.ask("0000000e") == "00000000")
    #expect(client.ask(Self.startup) == "80010000000a00000101")
  }

  /// A size that can't be hangs up, with a line in the log; the next client is served.
  @Test(arguments: [
    "8001 00000000 00000144", "8001 00000009 00000144", "8001 00001001 00000144", "8001 7fffffff 00000144",
    "8001 ffffffff 00000144", "00000000000000000000", "ffffffffffffffffffff",
    // A prefix that says another size than the command, or that a command has which has none.
    "00000008 00 0000000d 8001 0000000c 00000144 0000", "00000008 00 00000009 8001 00000009 00000144",
  ]) func impossibleSizes(command: String) throws {
    let server = try TestServer(TestDirectory(), ["--flags", "startup-clear"])
    let client = try Socket(server, .data)
    #expect(client.ask(command) == "")
    #expect(server.log.contains("is refused"))
    #expect(try Socket(server, .data).ask(Self.family) == Self.familyAnswer)
  }

  /// Sizes that can be, around what can't: the TPM answers for itself.
  @Test func nonsenseOfAPossibleSize() throws {
    let server = try TestServer(TestDirectory(), ["--flags", "startup-clear"])
    var generator = SystemRandomNumberGenerator()
    for size in [10, 11, 13, 100, 2048, 4095, 4096] {
      let client = try Socket(server, .data)
      for tag in [[0x80, 0x01], [0x80, 0x02], [0x00, 0xC1], [0xFF, 0xFF]] as [[UInt8]] {
        let length = [UInt8](repeating: 0, count: 2) + [UInt8(size >> 8), UInt8(size & 0xFF)]
        let body = (0..<(size - 8)).map { _ in UInt8.random(in: 0...255, using: &generator) }
        let answer = client.ask(tag + length + [0, 0] + body)
        #expect(answer.count >= 10)
      }
    }
    #expect(try Socket(server, .data).ask(Self.family) == Self.familyAnswer)
  }

  @Test func clientsThatLeave() throws {
    let server = try TestServer(TestDirectory(), ["--flags", "startup-clear"])
    for length in [0, 1, 9, 10, 15] {
      let client = try Socket(server, .data)
      client.send(Array(bytes(Self.family).prefix(length)))
    }
    // Many commands and never a response taken.
    do {
      let client = try Socket(server, .data)
      for _ in 0..<50 { client.send(bytes(Self.family)) }
    }
    #expect(try Socket(server, .data).ask(Self.family) == Self.familyAnswer)
    #expect(server.log.contains("left in the middle of a command"))
  }

  // MARK: Several clients

  /// Whatever one does or doesn't do, the others are served.
  @Test(arguments: TestServer.Transport.allCases) func severalClients(transport: TestServer.Transport) throws {
    let server = try TestServer(TestDirectory(), ["--flags", "startup-clear"], over: transport)
    let idle = try Socket(server, .data)
    #expect(idle.ask(Self.family) == Self.familyAnswer)
    let half = try Socket(server, .data)
    half.send(Array(bytes(Self.family).prefix(12)))
    let deaf = try Socket(server, .data)
    for _ in 0..<20 { deaf.send(bytes(Self.family)) }
    for _ in 0..<3 { #expect(try Socket(server, .data).ask(Self.family) == Self.familyAnswer) }
    #expect(half.receive().isEmpty, "hung up on")
    #expect(server.log.contains("a command wasn't complete within 5000 ms"))
    #expect(idle.ask(Self.family) == Self.familyAnswer)
  }

  /// Who sends many commands at once has to let others in between.
  @Test func inTurns() throws {
    let server = try TestServer(TestDirectory(), ["--flags", "startup-clear"])
    let (first, second) = (try Socket(server, .data), try Socket(server, .data))
    let count = 30
    first.send((0..<count).flatMap { _ in bytes(ControlChannelTests.longCommand) })
    let response = first.receive().count
    #expect(response > 100)
    #expect(second.ask(Self.family) == Self.familyAnswer)
    var more = 0
    while first.hasInput(within: 0) { more += first.receive().count }
    #expect(1 + more / response < count, "all were answered before the other client's")
  }

  /// Idle clients have all places: one makes room.
  @Test(arguments: TestServer.Transport.allCases) func aPlaceForOneMore(transport: TestServer.Transport) throws {
    let server = try TestServer(TestDirectory(), ["--flags", "startup-clear"], over: transport)
    let idle = try (0..<8).map { _ in try Socket(server, .data) }
    for client in idle { #expect(client.ask(Self.family) == Self.familyAnswer) }
    #expect(try Socket(server, .data).ask(Self.family) == Self.familyAnswer)
    #expect(server.log.contains("data channel: hanging up on an idle client"))
    #expect(idle[0].receive().isEmpty)
    for client in idle.dropFirst() { #expect(client.ask(Self.family) == Self.familyAnswer) }
  }

  // MARK: Localities

  /// The locality that the control channel sets is the one that the next command has: PCR 20 can't be reset from 0.
  @Test func localityOfACommand() throws {
    let server = try TestServer(TestDirectory(), ["--flags", "startup-clear"])
    let (data, control) = (try Socket(server, .data), try Socket(server, .control))
    // TPM2_PCR_Reset of PCR 20, which localities 2 and 4 may, with an empty password session.
    let reset = "8002 0000001b 0000013d 00000014 00000009 40000009 0000 00 0000"
    #expect(data.ask(reset) == "80010000000a00000907")
    #expect(control.ask("00000005 02") == "00000000")
    let answer = data.ask(reset)
    #expect(answer.hasPrefix("8002") && answer.dropFirst(12).hasPrefix("00000000"), "\(answer)")
  }

  /// A prefix's locality is its command's alone, and what SET_LOCALITY said holds before and after.
  @Test func aPrefixIsForOneCommand() throws {
    let server = try TestServer(TestDirectory(), ["--flags", "startup-clear"])
    let (data, control) = (try Socket(server, .data), try Socket(server, .control))
    let reset = DescriptorTests.reset
    #expect(data.ask("00000008 02 0000001b" + reset).dropFirst(8).hasPrefix("8002"))
    #expect(data.ask(reset) == "80010000000a00000907")
    #expect(control.ask("00000005 02") == "00000000")
    #expect(data.ask("00000008 00 0000001b" + reset) == "0000000a80010000000a0000090700000000")
    #expect(data.ask(reset).hasPrefix("8002"))
  }

  @Test func aPrefixWithALocalityThatNobodyGets() throws {
    let server = try TestServer(
      TestDirectory(), ["--flags", "startup-clear", "--locality", "reject-locality-4"])
    let data = try Socket(server, .data)
    let refused = "0000000a80010000000a0000090700000000"
    for locality in ["04", "05", "ff"] {
      #expect(data.ask("00000008 \(locality) 0000001b" + DescriptorTests.reset) == refused)
    }
    #expect(data.ask("00000008 02 0000001b" + DescriptorTests.reset).dropFirst(8).hasPrefix("8002"))
  }
}
