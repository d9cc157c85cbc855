import Foundation
import TestSupport
import Testing

@testable import VTPM

/// No refusal in silence: each error that a client gets has a line in the log that says why. And no flood of lines.
@Suite struct RefusalTests {
  private typealias Case = (request: String, answer: String, line: String)

  private func check(_ server: TestServer, _ cases: [Case]) throws {
    let control = try Socket(server, .control)
    for (request, answer, line) in cases {
      #expect(control.ask(request) == answer, "\(request)")
      #expect(server.log.contains(line), "\(request): \(server.log)")
    }
  }

  private let off = "the TPM is off: INIT comes first"
  private let on = "the TPM is on: STOP comes first"

  @Test func whileTheTPMIsOff() throws {
    let server = try TestServer(TestDirectory(), ["--locality", "reject-locality-4"])
    try check(
      server,
      [
        ("00000099", "0000000a", "command 0x99 is answered with 0xa: there is no such command"),
        ("00000004", "0000000a", "GET_TPMESTABLISHED is answered with 0xa: \(off)"),
        ("0000000b 03", "0000000a", "RESET_TPMESTABLISHED is answered with 0xa: \(off)"),
        ("00000006", "0000000a", "HASH_START is answered with 0xa: \(off)"),
        ("00000007 00000001 aa", "0000000a", "HASH_DATA is answered with 0xa: \(off)"),
        ("00000008", "0000000a", "HASH_END is answered with 0xa: \(off)"),
        ("00000009", "0000000a", "CANCEL_TPM_CMD is answered with 0xa: \(off)"),
        ("0000000a", "0000000a", "STORE_VOLATILE is answered with 0xa: \(off)"),
        ("0000000c 00000001 00000001 00000000", "0000000a", "GET_STATEBLOB is answered with 0xa: \(off)"),
        ("00000005 04", "0000003d", "SET_LOCALITY is answered with 0x3d: there are localities 0 to 3"),
        ("00000010", "0000001f", "SET_DATAFD is answered with 0x1f: --server was given"),
        ("00000012 0000000000000001 00001000 00000000", "00000003", "GET_INFO is answered with 0x3"),
        (
          "0000000d 00000000 00000009 00000001 aa", "00000003",
          "SET_STATEBLOB is answered with 0x3: this TPM has no state"
        ),
        ("0000000d 00000000 00000003 00000001 aa", "00000003", "this TPM has no state of type 3"),
        (
          "0000000d 00000000 00000001 00000001 aa", "00000003",
          "the permall that was to be set: a blob that swtpm can't"
        ),
      ])
  }

  /// What fails again and again is said once.
  @Test func badStatesAreNoFlood() throws {
    let server = try TestServer(TestDirectory())
    let control = try Socket(server, .control)
    for _ in 0..<200 { #expect(control.ask("0000000d 00000000 00000001 00000001 aa") == "00000003") }
    #expect(server.log.components(separatedBy: "the permall that was to be set").count == 2, "\(server.log)")
  }

  @Test func whileTheTPMIsOn() throws {
    let server = try TestServer(TestDirectory(), ["--flags", "startup-clear"])
    try check(
      server,
      [
        ("0000000d 00000000 00000001 00000001 aa", "0000000a", "SET_STATEBLOB is answered with 0xa: \(on)"),
        ("00000011 00001000", "0000000a", "SET_BUFFERSIZE is answered with 0xa"),
        ("0000000b 05", "0000003d", "RESET_TPMESTABLISHED is answered with 0x3d: there are localities 0 to 4"),
        ("0000000b 02", "0000003d", "RESET_TPMESTABLISHED is answered with 0x3d: libtpms says so"),
        (
          "0000000c 00000001 00000009 00000000", "00000003" + String(repeating: "0", count: 24),
          "GET_STATEBLOB is answered with 0x3: there is no state of type 9"
        ),
      ])
  }

  /// SET_DATAFD without a descriptor, and a second one.
  @Test func dataDescriptors() throws {
    let server = try TestServer(TestDirectory(), channels: [.control])
    try check(server, [("00000010", "00000003", "SET_DATAFD is answered with 0x3: no descriptor came with it")])
    let control = try Socket(server, .control)
    let (data, one) = try Socket.pair()
    let (other, two) = try Socket.pair()
    defer { for descriptor in [one, two] { close(descriptor) } }
    control.send(bytes("00000010"), passing: [one])
    #expect(control.receive().hex == "00000000")
    control.send(bytes("00000010"), passing: [two])
    #expect(control.receive().hex == "0000001f")
    #expect(server.log.contains("SET_DATAFD is answered with 0x1f: there is a data channel already"), "\(server.log)")
    withExtendedLifetime((data, other)) {}
  }

  /// Commands before INIT: said once, and once again when the TPM was on in between. QEMU's question for the kind of
  /// TPM is none.
  @Test func commandsBeforeINIT() throws {
    let server = try TestServer(TestDirectory())
    let (data, control) = (try Socket(server, .data), try Socket(server, .control))
    func lines() -> Int { server.log.components(separatedBy: "the TPM is off until INIT comes").count - 1 }
    #expect(data.ask("8001 0000000a 00000181") == "80010000000a00000101")
    // With a prefix, too.
    #expect(data.ask("00000008 00 0000000a 8001 0000000a 00000181").hasSuffix("80010000000a0000010100000000"))
    #expect(lines() == 0)
    for _ in 0..<300 { #expect(data.ask("8001 0000000c 0000017b 0004") == "80010000000a00000101") }
    #expect(lines() == 1)
    #expect(control.ask("00000002 00000000") == "00000000")
    #expect(data.ask(DataChannelTests.startup) == "80010000000a00000000")
    #expect(control.ask("0000000e") == "00000000")
    for _ in 0..<300 { _ = data.ask("8001 0000000c 0000017b 0004") }
    #expect(lines() == 2)
  }

  /// Localities that nobody gets.
  @Test func localitiesOfCommands() throws {
    let server = try TestServer(TestDirectory(), ["--flags", "startup-clear", "--locality", "reject-locality-4"])
    let data = try Socket(server, .data)
    #expect(data.ask("00000008 04 0000000c 8001 0000000c 0000017b 0004").contains("00000907"))
    #expect(server.log.contains("a command with locality 4 is refused; 0 to 3 may be used"))
    let other = try TestServer(TestDirectory(), ["--flags", "startup-clear"])
    #expect(try Socket(other, .data).ask("8001 0000000b 20001000 01") == "80010000000a00000101")
    #expect(other.log.contains("a command that sets the locality is refused"))
  }

  /// Who asks again and again has few lines written.
  @Test func noFlood() throws {
    let server = try TestServer(TestDirectory())
    let control = try Socket(server, .control)
    for _ in 0..<500 { #expect(control.ask("00000004") == "0000000a") }
    for command in 0x100..<0x400 { #expect(control.ask(String(format: "%08x", command)) == "0000000a") }
    #expect(server.log.split(separator: "\n").count < 60, "\(server.log)")
  }

  // MARK: What libtpms says

  /// A number, a C function's name and a number go on, of exactly that line, and nothing else.
  @Test(arguments: [
    (
      "libtpms/tpm2: Entering failure mode; code: 6, location: TestSymmetricAlgorithm line 233", 6,
      "TestSymmetricAlgorithm, line 233"
    ),
    ("libtpms/tpm2: Entering failure mode; code: 8", 8, ""),
    ("libtpms/tpm2: Entering failure mode; code: 8, location: a_b1 line 1", 8, "a_b1, line 1"),
  ]) func failureMode(line: String, code: Int, place: String) {
    #expect(LibtpmsMessages.failure(in: Array(line.utf8)[...]) == LibtpmsMessages.Failure(code: code, place: place))
  }

  @Test(arguments: [
    "", "80 01 00 00 00 0b 00 00 01 43 01", "libtpms/tpm2: TPM2_Process: Entered failure mode through command:",
    "Entering failure mode; code: 6", "x libtpms/tpm2: Entering failure mode; code: 6",
    "libtpms/tpm2: Entering failure mode; code: ",
    "libtpms/tpm2: Entering failure mode; code: -1", "libtpms/tpm2: Entering failure mode; code: 1234567890",
    "libtpms/tpm2: Entering failure mode; code: 6 and more",
    "libtpms/tpm2: Entering failure mode; code: 6, location:  line 2",
    "libtpms/tpm2: Entering failure mode; code: 6, location: a b line 2",
    "libtpms/tpm2: Entering failure mode; code: 6, location: a line ",
    "libtpms/tpm2: Entering failure mode; code: 6, location: a line 2 secret",
    "libtpms/tpm2: Entering failure mode; code: 6, location: a\u{1b}[2J line 2",
  ]) func everythingElse(line: String) {
    #expect(LibtpmsMessages.failure(in: Array(line.utf8)[...]) == nil)
  }

  @Test func onlyTheFailureIsTaken() throws {
    let messages = try #require(LibtpmsMessages())
    func say(_ text: String) { _ = unsafe write(messages.descriptor, text, text.utf8.count) }
    #expect(messages.takeFailure() == nil)
    say(
      "libtpms/tpm2: something else\nlibtpms/tpm2: Entering failure mode; code: 3, location: F line 4\n80 02 70 61 73 73\n"
    )
    #expect(messages.takeFailure() == LibtpmsMessages.Failure(code: 3, place: "F, line 4"))
    #expect(messages.takeFailure() == nil)
    // Never waited for: what doesn't fit is lost.
    for _ in 0..<100 { say(String(repeating: "x", count: 4000)) }
    #expect(messages.takeFailure() == nil)
  }
}
