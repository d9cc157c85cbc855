import Foundation
import TestSupport
import Testing

/// Sockets that are the server's standard streams, as inetd and a systemd unit with StandardInput=socket hand them
/// over.
@Suite struct StandardStreamTests {
  /// Starts a server with a socket as the descriptors `arguments[2]`, asks it and hangs up, and ends as the server
  /// does. The answer must be what `arguments[1]` says, and nothing else may come.
  private static let client = """
    import os, socket, subprocess, sys
    request, answer, streams, listens = bytes.fromhex(sys.argv[1]), sys.argv[2], sys.argv[3].split(","), sys.argv[4]
    if listens:
        its = socket.socket(socket.AF_UNIX); its.bind(listens); its.listen()
    else:
        ours, its = socket.socketpair()
    names = ["stdin", "stdout", "stderr"]
    log = open("log.server", "w")
    files = {names[int(stream)]: its for stream in streams}
    server = subprocess.Popen(sys.argv[5:], **{"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, **files})
    its.close()
    if listens:
        ours = socket.socket(socket.AF_UNIX); ours.connect(listens)
    ours.settimeout(60)
    ours.sendall(request)
    found = ours.recv(4096).hex()
    assert found == answer, found
    if listens:
        ours.sendall(bytes([0, 0, 0, 3])); assert ours.recv(4) == bytes(4)
    ours.shutdown(socket.SHUT_WR)
    rest = ours.recv(4096)
    assert rest == b"", rest
    sys.exit(server.wait(60))
    """

  private func run(
    _ place: Place, _ request: (hex: String, answer: String), _ streams: String, _ options: [String],
    listens: String = ""
  ) throws -> Place.Outcome {
    try place.run(
      ["python3", "-c", Self.client, request.hex, request.answer, streams, listens, "vnvram-swtpm", "socket", "--tpm2"]
        + ["--tpmstate", "backend-uri=vnvram://\(place.image)"] + options)
  }

  /// CMD_GET_CAPABILITY.
  private static let capabilities = ("00000001", "000000000001ffff")
  /// QEMU's probe.
  private static let probe = ("80010000000a00000181", "80010000000a00000101")

  @Test(arguments: ["0", "1", "2", "0,1,2"]) func controlClient(streams: String) throws {
    let descriptor = streams.suffix(1)
    let outcome = try run(
      try Place(), Self.capabilities, streams, ["--ctrl", "type=unixio,clientfd=\(descriptor),terminate"])
    #expect(outcome.status == 0, "\(outcome.text)")
  }

  /// Messages to standard error never go to a client.
  @Test(arguments: ["0", "1", "2", "0,1,2"]) func dataClient(streams: String) throws {
    let place = try Place()
    for option in ["--server=type=tcp,fd=\(streams.suffix(1))", "-f\(streams.suffix(1))"] {
      let outcome = try run(place, Self.probe, streams, [option])
      #expect(outcome.status == 0, "\(outcome.text)")
    }
  }

  @Test(arguments: ["0", "1", "2"]) func listens(stream: String) throws {
    let place = try Place()
    let outcome = try run(
      place, Self.capabilities, stream, ["--ctrl", "type=unixio,fd=\(stream)"], listens: "listener")
    #expect(outcome.status == 0, "\(outcome.text)")
    #expect(place.names.contains("listener"), "who made the socket's file removes it")
  }

  /// What was handed over in the foreground goes on in the background.
  @Test(arguments: ["0", "0,1,2"]) func daemon(streams: String) throws {
    let place = try Place()
    let outcome = try run(
      place, Self.capabilities, streams,
      ["--ctrl", "type=unixio,clientfd=0,terminate", "--daemon", "--pid", "file=log.pid"])
    #expect(outcome.status == 0, "\(outcome.text)")
    for _ in 0..<5000 where FileManager.default.fileExists(atPath: place.path("log.pid")) { usleep(2000) }
    #expect(!FileManager.default.fileExists(atPath: place.path("log.pid")))
  }

  /// Standard output and error as files for the process number and the log, of a daemon, too.
  @Test func filesByStandardStream() throws {
    let place = try Place()
    let script = """
      "$@" --daemon --pid fd=1 --log fd=0 0<>log.log >log.pid && kill -0 "$(cat log.pid)" &&
      swtpm_ioctl --unix tpm.ctrl -i 0 && kill "$(cat log.pid)" || exit 50
      while kill -0 "$(cat log.pid)" 2>/dev/null; do sleep 0.02; done
      grep "ending on a signal" log.log
      """
    let outcome = try place.run(
      [
        "bash", "-c", script, "bash", "vnvram-swtpm", "socket", "--tpm2", "--tpmstate",
        "backend-uri=vnvram://\(place.image)", "--ctrl", "type=unixio,path=tpm.ctrl",
      ])
    #expect(outcome.status == 0, "\(outcome.text)")
  }

  /// What is no socket is refused before anything is used.
  @Test(arguments: [
    ["--ctrl", "type=unixio,clientfd=0"], ["--ctrl", "type=unixio,fd=99"], ["--server", "type=tcp,fd=1"], ["-f", "2"],
  ]) func noSockets(options: [String]) throws {
    let place = try Place()
    let outcome = try place.run(
      ["vnvram-swtpm", "socket", "--tpm2", "--tpmstate", "backend-uri=vnvram://\(place.image)"] + options)
    #expect(outcome.status == 2 && outcome.text.contains("no socket"), "\(outcome.text)")
  }
}
