import Foundation
import TestSupport
import Testing

/// The control channel, byte for byte. Where Debian's swtpm is installed it is asked the same.
@Suite struct ControlChannelTests {
  /// Requests and swtpm's answers, in order. "" is a connection that is closed; the next request is on a new one.
  static let transcript: [(request: String, answer: String)] = [
    // Before INIT: what needs a running TPM is a bad ordinal.
    ("00000004", "0000000a"), ("00000009", "0000000a"), ("0000000a", "0000000a"), ("0000000b 00", "0000000a"),
    ("0000000f", "0000000000000000"),
    ("00000011 00000000", "00000000000010000000 0af800001000"),
    ("00000011 00000bb8", "0000000000000bb80000 0af800001000"),
    ("00000011 00000001", "0000000000000af80000 0af800001000"),
    ("00000011 000186a0", "00000000000010000000 0af800001000"),
    ("00000012 0000000000000003 00001388 00000000", "00000003"),
    ("00000012 0000010000000008 00000000 00000000", "00000000000000030000 00037b7d00"),
    ("00000099", "0000000a"), ("00000000", "0000000a"), ("ffffffff", "0000000a"),
    ("0000000e", "00000000"),
    // Localities: 0 to 4, with and without padding.
    ("00000005 05", "0000003d"), ("00000005 ff", "0000003d"), ("00000005 01000000", "00000000"),
    ("00000005 00", "00000000"),
    // Messages that don't become complete.
    ("00000002 00", ""), ("0000", ""), ("00000005", ""),
    // INIT, twice; then what a running TPM answers.
    ("00000002 00000000", "00000000"), ("00000002 00000000", "00000000"),
    ("00000004", "0000000000000000"), ("00000009", "00000000"), ("0000000a", "00000000"),
    ("0000000b 00", "0000003d"), ("0000000b 03", "00000000"), ("0000000b 09", "0000003d"),
    ("0000000b 03000000", "00000000"),
    ("00000011 00000bb8", "0000000a"), ("00000011 00000000", "00000000000010000000 0af800001000"),
    // The volatile state that was stored is taken up, and deleted when asked.
    ("00000002 00000000", "00000000"), ("00000002 00000001", "00000000"),
    ("0000000e", "00000000"), ("00000004", "0000000a"),
  ]

  @Test(arguments: TestServer.Transport.allCases) func answersAsWritten(transport: TestServer.Transport) throws {
    let server = try TestServer(TestDirectory(), over: transport)
    try play { try Socket(server, .control) }
    #expect(server.isRunning)
    #expect(try Socket(server, .control).ask("00000003") == "00000000")
    #expect(server.wait() == 0)
  }

  @Test func swtpmAnswersTheSame() throws {
    let directory = try TestDirectory()
    let path = "\(directory.path)/tpm.ctrl"
    var command = ["swtpm", "socket", "--tpm2", "--tpmstate", "dir=\(directory.path)", "--ctrl"]
    command += ["type=unixio,path=\(path)", "--server", "type=unixio,path=\(directory.path)/tpm"]
    let process = try Child(command, in: directory.path, merged: true, output: "/dev/null")
    defer {
      process.signal(SIGTERM)
      _ = process.wait()
    }
    while process.isRunning && (try? Socket(path: path)) == nil { usleep(5000) }
    try play { try Socket(path: path) }
  }

  private func play(_ connect: () throws -> Socket) throws {
    var client = try connect()
    for (index, (request, answer)) in Self.transcript.enumerated() {
      let got = client.ask(request)
      #expect(got == bytes(answer).hex, "request \(index): \(request)")
      if answer.isEmpty { client = try connect() }
    }
  }

  /// Says what is supported: no hashing (4), state blobs (8, 9), SET_DATAFD (12), command header (15) or lock (16).
  @Test func capabilities() throws {
    let server = try TestServer(TestDirectory())
    let client = try Socket(server, .control)
    #expect(client.ask("00000001") == "0000000000006cef")
    for command in ["06", "07", "08", "0c", "0d", "10", "13"] {
      #expect(client.ask("000000\(command) 000000000000000000000000") == "0000000a")
    }
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

  @Test func messagesInPieces() throws {
    let server = try TestServer(TestDirectory())
    let client = try Socket(server, .control)
    for byte in bytes("00000012 0000000000000003 00000000 00000000") { client.send([byte]) }
    #expect(client.receive().count > 12)
  }

  @Test func messagesWithoutAnEnd() throws {
    let server = try TestServer(TestDirectory())
    for start in ["00", "00000012 00000000", "00000011 000000", "0000000b"] {
      // RESET_TPMESTABLISHED is 5 bytes, though it is refused: it is waited for before that is looked at.
      #expect(try Socket(server, .control).ask(start) == "")
    }
    #expect(server.log.contains("wasn't complete within 500 ms"))
  }

  @Test func oneClientAtATime() throws {
    let server = try TestServer(TestDirectory())
    var first: Socket? = try Socket(server, .control)
    #expect(first?.ask("0000000e") == "00000000")
    let second = try Socket(server, .control)
    second.send(bytes("00000001"))
    #expect(!second.hasInput(within: 100))
    first = nil
    #expect(second.receive().hex == "0000000000006cef")
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
    #expect(try Socket(server, .control).ask("00000001") == "0000000000006cef")
    // TPM2_Startup is for locality 0, and a random one was set.
    #expect(try Socket(server, .control).ask("00000005 00") == "00000000")
    #expect(try Socket(server, .data).ask("8001 0000000c 00000144 0000") == "80010000000a00000000")
  }
}
