import Foundation
import TestSupport
import Testing

/// The command line: what it says of itself, and what it refuses.
@Suite struct UsageTests {
  private static let state = ["--tpmstate", "backend-uri=vnvram://tpm.vnvram"]
  private static let control = ["--ctrl", "type=unixio,path=tpm.ctrl"]
  private static let whole = ["socket", "--tpm2"] + state + control

  static let wrong: [[String]] = [
    [], ["chardev"], ["--tpm2"], ["socket"], ["socket", "--tpm2"],
    ["socket", "--tpm2"] + control, ["socket", "--tpm2"] + state,
    ["socket", "--tpm2", "--tpmstate", "backend-uri=file://"] + control,
    ["socket", "--tpm2", "--tpmstate", "backend-uri=vnvram://"] + control,
    whole + ["--no-such-option"], whole + ["--flags"], whole + ["--flags", "startup-clear,startup-state"],
    whole + ["--fail-on-encrypted-drive=perhaps"], whole + ["--make-on-first-use=perhaps"],
    whole + ["--key-timeout", "0"], whole + ["--key-timeout", "x"],
    whole + ["--on-key-loss", "panic"], whole + ["--server", "type=udp,port=1"],
    whole + ["--server", "type=tcp,port=65536"], whole + ["--server", "type=tcp,port=1,bindaddr=localhost"],
    whole + ["--server", "type=unixio,path=" + String(repeating: "x", count: 200)],
    whole + ["stray"], whole + ["-"], whole + ["-x"], whole + ["-dx"], whole + ["-r"], whole + ["--tpm2=yes"],
    whole + ["--daemon=yes"], whole + ["--terminate=no"], whole + ["--pid"], whole + ["--pid", "file="],
    whole + ["--pid", "file=a,fd=3"], whole + ["--pid", "fd=99"], whole + ["--pid", "file=a,mode=0600"],
    whole + ["--log", "file="], whole + ["--log", "file=a,fd=3"], whole + ["--log", "file=a,level=loud"],
    whole + ["--log", "file=a,colour"], whole + ["--print-info"], whole + ["--print-info", "all"],
    whole + ["--print-info", "0x"], whole + ["--port", "0"], whole + ["-p70000"], whole + ["--fd", "1"],
    whole + ["--keyring-key", ""], whole + ["--key", "file=a", "--keyring-key", "b"],
    whole + ["--flags", "startup-deactivated"], whole + ["--flags", "startup-clear", "--migration", "incoming"],
    ["cuse"], ["socket", "--print-states", "--tpm2"],
  ]

  @Test func wrongUsage() throws {
    let place = try Place()
    let (before, names) = (try place.bytes(), place.names)
    for arguments in Self.wrong {
      let outcome = try place.run(["vnvram-swtpm"] + arguments)
      #expect(outcome.status == 2, "\(arguments): \(outcome.text)")
      #expect(outcome.text.hasPrefix("vnvram-swtpm: ") && outcome.text.count > 20, "\(arguments): \(outcome.text)")
    }
    #expect(try place.bytes() == before)
    #expect(place.names == names)
  }

  /// What swtpm has and this program hasn't says what to do instead.
  @Test(arguments: [
    (["--chroot", "/"], "--runas"), (["-R", "/"], "--runas"), (["--pcap", "file=x"], "passwords"),
  ]) func refused(arguments: [String], instead: String) throws {
    let place = try Place()
    let outcome = try place.run(["vnvram-swtpm"] + Self.whole + arguments)
    #expect(outcome.status == 2 && outcome.text.contains(instead), "\(outcome.text)")
    #expect(place.names == ["tpm.vnvram"])
  }

  /// `-p` hangs up after each response; `-f` is one client, with which the server ends.
  @Test func olderOptions() throws {
    let place = try Place()
    let port = try Socket.freePorts()
    let command = ["vnvram-swtpm", "socket", "--tpm2"] + Self.state + ["--flags", "not-need-init,startup-clear"]
    let server = try place.start(command + ["-p", "\(port)"])
    var answers = 0
    while server.isRunning, answers < 2 {
      guard let socket = try? Socket(port: port) else {
        usleep(2000)
        continue
      }
      #expect(socket.ask([0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x7B, 0, 8]).count == 20)
      answers += 1
    }
    server.signal(SIGTERM)
    #expect(server.wait() == 0, "\(server.text)")
    let script = """
      import socket, subprocess, sys
      ours, theirs = socket.socketpair()
      server = subprocess.Popen(sys.argv[1:] + ["-f", str(theirs.fileno())], pass_fds=[theirs.fileno()])
      theirs.close()
      ours.sendall(bytes.fromhex("80010000000c0000017b0008"))
      assert len(ours.recv(100)) == 20
      ours.close()
      sys.exit(server.wait(60))
      """
    let outcome = try place.run(["python3", "-c", script] + command)
    #expect(outcome.status == 0, "\(outcome.text)")
  }

  @Test func help() throws {
    let place = try Place()
    let help = try place.run(["vnvram-swtpm", "--help"])
    #expect(help.status == 0)
    #expect(try place.run(["vnvram-swtpm", "socket", "--help"]).text == help.text)
    for arguments in [["-h"], ["socket", "-h"], ["socket", "--tpm2", "--help"]] {
      #expect(try place.run(["vnvram-swtpm"] + arguments).text == help.text)
    }
    for arguments in [["--version"], ["-v"], ["socket", "--version"]] {
      let version = try place.run(["vnvram-swtpm"] + arguments)
      #expect(version.status == 0 && version.text.hasPrefix("TPM emulator version 0."), "\(version.text)")
    }
    // The example is one that works: its commands, with names of ours.
    let start = try #require(help.text.range(of: "Example:\n")).upperBound
    let end = try #require(help.text.range(of: "\n\n", range: start..<help.text.endIndex)).lowerBound
    let port = try Socket.freePorts()
    var script = help.text[start..<end].replacingOccurrences(of: "vm7", with: place.key.name)
    script = script.replacingOccurrences(of: "2321", with: "\(port)").replacingOccurrences(
      of: "2322", with: "\(port + 1)")
    script = script.replacingOccurrences(of: " key generate ", with: " key generate --keyring session ")
    // The server runs beside the last command, and ends after it.
    script = script.replacingOccurrences(of: ",startup-clear &\n", with: ",startup-clear &\nsleep 1\n")
    place.key.remove()
    let outcome = try place.run(["bash", "-c", "set -e\n\(script)\nkill %1\nwait %1"])
    #expect(outcome.status == 0, "\(script)\n\(outcome.text)")
  }
}
