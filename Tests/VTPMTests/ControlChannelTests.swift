import Foundation
import TestSupport
import Testing

/// The control channel, byte for byte. Where Debian's swtpm is installed it is asked the same.
@Suite struct ControlChannelTests {
  /// Requests and swtpm's answers, in order. "" is a connection that is closed; the next request is on a new one. "…"
  /// ends an answer of which the rest is different each time; its length is in its header. What begins with ">" is for
  /// the data channel.
  static let transcript: [(request: String, answer: String)] = [
    // Before INIT: what needs a running TPM is a bad ordinal.
    ("00000004", "0000000a"), ("00000009", "0000000a"), ("0000000a", "0000000a"), ("0000000b 00", "0000000a"),
    ("00000006", "0000000a"), ("00000007 00000001 aa", "0000000a"), ("00000008", "0000000a"),
    ("0000000c 00000001 00000001 00000000", "0000000a"),
    ("0000000f", "0000000000000000"),
    ("00000011 00000000", "00000000000010000000 0af800001000"),
    ("00000011 00000bb8", "0000000000000bb80000 0af800001000"),
    ("00000011 00000001", "0000000000000af80000 0af800001000"),
    ("00000011 000186a0", "00000000000010000000 0af800001000"),
    ("00000012 0000000000000003 00001388 00000000", "00000003"),
    ("00000012 0000010000000100 00000000 00000000", "00000000000000030000 00037b7d00"),
    ("00000012 0000000000000000 00000001 00000000", "00000000000000030000 00027d00"),
    ("00000012 0000000000000000 00000002 00000000", "00000003"),
    ("00000099", "0000000a"), ("00000000", "0000000a"), ("ffffffff", "0000000a"),
    ("0000000e", "00000000"),
    // Localities: 0 to 4, with and without padding.
    ("00000005 05", "0000003d"), ("00000005 ff", "0000003d"), ("00000005 01000000", "00000000"),
    ("00000005 04", "00000000"), ("00000005 00", "00000000"),
    // Messages that don't become complete.
    ("00000002 00", ""), ("0000", ""), ("00000005", ""), ("00000007 00", ""),
    // States that are none: of no type, without a whole header, of a wrong size, version, header size; encrypted
    // without a key.
    ("0000000d 00000000 00000000 00000000", "00000003"), ("0000000d 00000000 00000004 00000000", "00000003"),
    ("0000000d 00000000 00000001 00000004 00000000", "00000003"),
    ("0000000d 00000000 00000001 0000000a 0201000a000000000000", "00000003"),
    ("0000000d 00000000 00000001 0000000a 0203000a00000000000a", "0000002e"),
    ("0000000d 00000000 00000001 0000000a 0201000b00000000000a", "0000002b"),
    ("0000000d 00000000 00000001 00000010 0201000a000000000010 000100000000", "00000009"),
    ("0000000d 00000000 00000001 0000000b 0201000a00020000000b 0b", "0000000d"),
    ("0000000d 00000000 00000001 00000016 0201000a000100000016 000400000006000100000000", "0000000d"),
    ("0000000d 00000002 00000001 00000016 0201000a000000000016 000400000006000100000000", "0000000d"),
    // There is none: of the volatile and the saved state.
    ("0000000d 00000000 00000002 00000000", "00000000"), ("0000000d 00000000 00000003 00000000", "00000000"),
    ("0000000d 00000000 00000002 0000000a 0201000a00000000000a", "00000000"),
    // No descriptor with it, and a data channel that is there already.
    ("00000010", "0000001f"),
    // INIT, twice; then what a running TPM answers.
    ("00000002 00000000", "00000000"), ("00000002 00000000", "00000000"),
    ("00000004", "0000000000000000"), ("00000009", "00000000"), ("0000000a", "00000000"),
    ("0000000b 00", "0000003d"), ("0000000b 03", "00000000"), ("0000000b 09", "0000003d"),
    ("0000000b 03000000", "00000000"),
    ("00000011 00000bb8", "0000000a"), ("00000011 00000000", "00000000000010000000 0af800001000"),
    ("0000000d 00000000 00000001 00000000", "0000000a"),
    // States: result, flags, total length, length; the savestate is none of a TPM 2.0's; from the end on there is
    // nothing.
    ("0000000c 00000001 00000001 00000000", "00000000 00000000 00000529 00000529 0201000a0004 00000529 0004 00000519…"),
    ("0000000c 00000000 00000001 00000010", "00000000 00000000 00000519 00000519 0001 00000513…"),
    ("0000000c 00000001 00000001 ffffffff", "00000000000000000000000000000000"),
    ("0000000c 00000001 00000002 00000000", "00000000 00000000 00002260 00002260 0201000a0004 00002260 0004 00002250…"),
    ("0000000c 00000001 00000003 00000000", "00000800000000000000000000000000"),
    // A measurement before TPM2_Startup goes to PCR 0, one after it to PCR 17.
    ("00000006", "00000000"), ("00000007 00000003 616263", "00000000"), ("00000007 00000000", "00000000"),
    ("00000008", "00000000"), ("00000004", "0000000001000000"),
    (">8001 0000000c 00000144 0000", "80010000000a00000000"),
    (
      ">8001 00000014 0000017e 00000001 000b 03 010000",
      // SHA-256(31 zeros, 4, SHA-256("abc")): a measurement by locality 4 (TPM 2.0 Part 1, 34.3).
      "8001 0000003e 00000000 00000014 00000001 000b 03 010000 00000001 0020"
        + "15703cc929081671c587dad9b09606521a35aa6bf4741df448d22c4b307acc71"
    ),
    ("00000006", "00000000"), ("00000007 00000003 616263", "00000000"), ("00000008", "00000000"),
    ("00000004", "0000000001000000"), ("0000000b 03", "00000000"), ("00000004", "0000000000000000"),
    // A command with a locality before it; and one that sets it, which isn't allowed.
    (">00000008 00 0000000c 8001 0000000c 00000144 0000", "0000000a 80010000000a00000100 00000000"),
    (
      ">00000008 03 0000001b 8002 0000001b 0000013d 00000014 00000009 40000009 0000 00 0000",
      "0000000a 80010000000a00000907 00000000"
    ),
    (">8001 0000000b 20001000 02", "80010000000a00000101"), (">8001 0000000a 20001000", "80010000000a0000009a"),
    (">8001 0000000b 00001001 02", "80010000000a00000143"),
    ("00000005 00", "00000000"),
    // The volatile state that was stored is taken up, and deleted when asked.
    ("0000000a", "00000000"), ("00000002 00000000", "00000000"), ("00000002 00000001", "00000000"),
    ("0000000e", "00000000"), ("00000004", "0000000a"),
  ]

  /// The same of a TPM 1.2.
  static let transcriptOf12: [(request: String, answer: String)] = [
    (">00c1 0000000c 00000099 0001", "00c40000000a00000009"), (">8001 0000000a 00000181", "00c40000000a00000009"),
    ("00000011 00000000", "00000000000010000000 0c0000001000"),
    ("00000007 00000001 aa", "0000000a"),
    ("00000002 00000000", "00000000"),
    (">00c1 0000000c 00000099 0001", "00c40000000a00000000"), (">00c1 0000000a 00000046", "00c40000000a00000019"),
    ("00000004", "0000000000000000"),
    ("0000000c 00000001 00000001 00000000", "00000000 00000000 000004a7 000004a7 0201000a0004 000004a7 0004 00000497…"),
    ("0000000c 00000001 00000002 00000000", "00000000 00000000 000004e5 000004e5 0201000a0004 000004e5 0004 000004d5…"),
    ("0000000c 00000001 00000003 00000000", "00000800000000000000000000000000"),
    // TPM_SaveState.
    (">00c1 0000000a 00000098", "00c40000000a00000000"),
    ("0000000c 00000001 00000003 00000000", "00000000 00000000 000003e0 000003e0 0201000a0004 000003e0 0004 000003d0…"),
    ("0000000b 03", "00000000"), ("0000000b 02", "0000003d"),
    ("00000006", "00000000"), ("00000007 00000001 aa", "00000000"), ("00000008", "00000000"),
    ("00000004", "0000000001000000"), ("0000000b 03", "00000000"), ("00000004", "0000000000000000"),
    ("0000000e", "00000000"),
    // The saved state is used up by TPM_Startup(ST_STATE).
    ("00000002 00000000", "00000000"), (">00c1 0000000c 00000099 0002", "00c40000000a00000000"),
    ("0000000c 00000001 00000003 00000000", "00000800000000000000000000000000"),
    ("0000000e", "00000000"),
  ]

  /// Without the probe of a measurement's outcome, which needs one client for both channels.
  @Test(arguments: TestServer.Transport.allCases) func answersAsWritten(transport: TestServer.Transport) throws {
    let server = try TestServer(TestDirectory(), over: transport)
    try play(Self.transcript, data: { try Socket(server, .data) }) { try Socket(server, .control) }
    #expect(server.isRunning)
    #expect(try Socket(server, .control).ask("00000003") == "00000000")
    #expect(server.wait() == 0)
  }

  @Test func answersAsWrittenForTPM12() throws {
    let server = try TestServer(TestDirectory(), ["--tpm1.2"])
    try play(Self.transcriptOf12, data: { try Socket(server, .data) }) { try Socket(server, .control) }
    #expect(try Socket(server, .control).ask("00000001") == "0000000000017fff")
    #expect(server.isRunning)
  }

  @Test(arguments: [true, false]) func swtpmAnswersTheSame(isTPM2: Bool) throws {
    let swtpm = try Swtpm(TestDirectory(), isTPM2 ? ["--tpm2"] : [])
    try play(
      isTPM2 ? Self.transcript : Self.transcriptOf12, data: { try Socket(path: swtpm.dataPath) },
      { try Socket(path: swtpm.controlPath) })
  }

  private func play(
    _ transcript: [(request: String, answer: String)], data: () throws -> Socket, _ connect: () throws -> Socket
  ) throws {
    var client = try connect()
    let commands = try data()
    for (index, (request, answer)) in transcript.enumerated() {
      let isCommand = request.hasPrefix(">")
      let (to, expected) = (isCommand ? commands : client, bytes(answer).hex)
      let request = isCommand ? String(request.dropFirst()) : request
      to.send(bytes(request))
      if answer.hasSuffix("…") {
        let got = to.receive(atLeast: 16)
        let whole = isCommand ? Int(got.integer(at: 2)) : 16 + Int(got.integer(at: 12))
        let all = got + to.receive(atLeast: whole - got.count)
        #expect(all.count == whole && all.hex.hasPrefix(expected), "request \(index): \(request)")
      } else {
        #expect(to.receive().hex == expected, "request \(index): \(request)")
      }
      if answer.isEmpty { client = try connect() }
    }
  }

  /// All that swtpm 0.7.1 has, and LOCK_STORAGE.
  @Test func capabilities() throws {
    let server = try TestServer(TestDirectory())
    #expect(try Socket(server, .control).ask("00000001") == "000000000001ffff")
    let other = try TestServer(TestDirectory(), ["--tpm1.2"])
    #expect(try Socket(other, .control).ask("00000001") == "0000000000017fff")
  }

  @Test func infoInParts() throws {
    let server = try TestServer(TestDirectory())
    let client = try Socket(server, .control)
    let whole = client.ask(bytes("00000012 0000000000000007 00000000 00000000"))
    let text = try #require(String(bytes: whole.dropFirst(12).dropLast(), encoding: .utf8))
    #expect(text.hasPrefix("{\"TPMSpecification\":{\"family\":\"2.0\""))
    #expect(text.contains("\"RSAKeySizes\""))
    #expect(whole.last == 0)
    #expect(Array(whole[4..<8]) == Array(whole[8..<12]))
    let rest = client.ask(bytes("00000012 0000000000000007 00000010 00000000"))
    #expect(Array(rest.dropFirst(12)) == Array(whole.dropFirst(12 + 16)))
  }

  /// Whatever part is asked for that libtpms 0.9 has, the text is the one that swtpm gives. Of the others its own tests
  /// say more (`ProfileTests` in Tests/ServerTests).
  @Test func infoIsSwtpms() throws {
    let ours = try TestServer(TestDirectory())
    let theirs = try Swtpm(TestDirectory(), ["--tpm2"])
    let (client, other) = (try Socket(ours, .control), try Socket(path: theirs.controlPath))
    for isOn in [false, true] {
      for flags in 0...7 {
        let request = bytes("00000012 00000000000000\(String(flags + 0x100, radix: 16).dropFirst()) 00000000 00000000")
        let answer = client.ask(request)
        #expect(answer == other.ask(request) && answer.count > 12, "flags \(flags)")
      }
      if !isOn { for socket in [client, other] { #expect(socket.ask("00000002 00000000") == "00000000") } }
    }
  }

  /// TPM2_CreatePrimary of an RSA key with 3072 bits, the longest command that there is, in the null hierarchy.
  static let longCommand =
    "8002 00000043 00000131 40000007 00000009 40000009 0000 00 0000 0004 0000 0000"
    + "001a 0001 000b 00030072 0000 0006 0080 0043 0010 0c00 00000000 0000 0000 00000000"

  /// CANCEL_TPM_CMD comes while a command runs: in swtpm and here one thread runs commands and reads this channel, so
  /// it is answered when the command is done, which it cancels no more.
  @Test func cancelInTheMiddle() throws {
    let ours = try TestServer(TestDirectory(), ["--flags", "not-need-init,startup-clear"])
    let theirs = try Swtpm(TestDirectory(), ["--tpm2", "--flags", "not-need-init,startup-clear"])
    let servers = [
      ("vnvram-swtpm", try Socket(ours, .data), try Socket(ours, .control)),
      ("swtpm", try Socket(path: theirs.dataPath), try Socket(path: theirs.controlPath)),
    ]
    for (name, data, control) in servers {
      let began = Date()
      data.send(bytes(Self.longCommand))
      usleep(20_000)
      let sent = Date()
      #expect(control.ask("00000009") == "00000000")
      let cancelled = Date()
      #expect(Array(data.receive().prefix(10)).hex.hasSuffix("00000000"), "\(name): the key is there")
      func time(_ since: Date, _ until: Date) -> Int { Int(until.timeIntervalSince(since) * 1000) }
      print(
        "cancel: \(name): RSA-3072 in \(time(began, Date())) ms, the cancel was answered after \(time(sent, cancelled)) ms"
      )
      #expect(control.ask("00000001").count == 16)
    }
  }

  @Test func messagesInPieces() throws {
    let server = try TestServer(TestDirectory())
    let client = try Socket(server, .control)
    for byte in bytes("00000012 0000000000000003 00000000 00000000") { client.send([byte]) }
    #expect(client.receive().count > 12)
    for byte in bytes("0000000d 00000000 00000001 0000000a 0201000b00000000000a") { client.send([byte]) }
    #expect(client.receive().hex == "0000002b")
  }

  @Test func messagesWithoutAnEnd() throws {
    let server = try TestServer(TestDirectory())
    for start in ["00", "00000012 00000000", "00000011 000000", "0000000b"] {
      // RESET_TPMESTABLISHED is 5 bytes, though it is refused: it is waited for before that is looked at.
      #expect(try Socket(server, .control).ask(start) == "")
    }
    #expect(server.log.contains("wasn't complete within 500 ms"))
  }

  // MARK: Several clients

  /// Whatever one does or doesn't do, the others are served; also to the end.
  @Test(arguments: TestServer.Transport.allCases) func severalClients(transport: TestServer.Transport) throws {
    let server = try TestServer(TestDirectory(), ["--flags", "startup-clear"], over: transport)
    let idle = try Socket(server, .control)
    #expect(idle.ask("0000000f") == "0000000000000000")
    let half = try Socket(server, .control)
    half.send(bytes("0000000d 00000000"))
    // More than its socket takes.
    let deaf = try Socket(server, .control)
    for _ in 0..<300 {
      deaf.send(bytes("0000000c 00000001 00000002 00000000"))
      usleep(1000)
    }
    #expect(try Socket(server, .control).ask("00000001") == "000000000001ffff")
    #expect(half.receive().isEmpty, "hung up on")
    #expect(idle.ask("0000000f") == "0000000000000000")
    #expect(try Socket(server, .control).ask("00000003") == "00000000")
    #expect(server.wait() == 0)
    #expect(idle.receive().isEmpty)
  }

  /// Idle clients have all places: one makes room, but never the machine's own.
  @Test(arguments: TestServer.Transport.allCases) func aPlaceForOneMore(transport: TestServer.Transport) throws {
    let server = try TestServer(TestDirectory(), over: transport)
    let machine = try Socket(server, .control)
    #expect(machine.ask("00000002 00000000") == "00000000")
    let idle = try (0..<7).map { _ in try Socket(server, .control) }
    for client in idle { #expect(client.ask("0000000f") == "0000000000000000") }
    #expect(try Socket(server, .control).ask("00000001") == "000000000001ffff")
    #expect(server.log.contains("control channel: hanging up on an idle client"))
    #expect(idle[0].receive().isEmpty)
    for client in [machine] + idle.dropFirst() { #expect(client.ask("0000000f") == "0000000000000000") }
  }

  /// Nobody can make room: who waits is told so, and the log says it.
  @Test func noPlaceForOneMore() throws {
    let server = try TestServer(TestDirectory())
    let clients = try (0..<8).map { _ in try Socket(server, .control) }
    for client in clients { #expect(client.ask("00000002 00000000") == "00000000") }
    #expect(try Socket(server, .control).ask("00000001") == "")
    #expect(server.log.contains("control channel: 8 clients are busy: hanging up on 1 more"))
    for client in clients { #expect(client.ask("0000000f") == "0000000000000000") }
  }

  /// Nothing that comes in makes it fall over, and what it answers afterwards is right.
  @Test func badInput() throws {
    let server = try TestServer(TestDirectory(), ["--flags", "not-need-init"])
    var generator = SystemRandomNumberGenerator()
    let inputs: [[UInt8]] =
      [
        [], [0], bytes("000000"), bytes("00000002 ffffff"), bytes("00000011"), bytes("00000007 ffffffff"),
        bytes("0000000d 00000000 00000001 ffffffff"), bytes("00000010"), bytes("00000012 ffffffffffffffff ffffffff"),
        [UInt8](repeating: 0xFF, count: 4096), [UInt8](repeating: 0, count: 70_000),
      ]
      + (0..<60).map { length in
        // Commands that don't turn it off, with bodies of random bytes.
        bytes("000000") + [[1, 5, 9, 0xB, 0xF, 0x11, 0x12, 0x77].randomElement(using: &generator) ?? 1]
          + (0..<length).map { _ in UInt8.random(in: 0...255, using: &generator) }
      }
    for input in inputs {
      let client = try Socket(server, .control)
      client.send(input)
    }
    #expect(try Socket(server, .control).ask("00000001") == "000000000001ffff")
    // TPM2_Startup is for locality 0, and a random one was set.
    #expect(try Socket(server, .control).ask("00000005 00") == "00000000")
    #expect(try Socket(server, .data).ask("8001 0000000c 00000144 0000") == "80010000000a00000000")
  }
}
