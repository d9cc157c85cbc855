import Foundation
import TestSupport
import Testing

/// The server with an anchor: a TPM never wakes up in its own past.
@Suite struct AnchorTests {
  private static let anchored = ["--anchor", "anchor"]

  private func use(_ place: Place, _ value: UInt8) throws {
    let server = try TestServer(place, TestServer.startsByItself + Self.anchored)
    let client = try server.connect(.data)
    if value == 1 { try client.run(TPMCommand.defineIndex) }
    try client.run(TPMCommand.write(value))
    #expect(server.end() == 0)
  }

  /// A TPM that has written twice, and its image from in between.
  private func rolledBack() throws -> (place: Place, newer: [UInt8]) {
    let place = try Place(["--profile", "tpm2"] + Self.anchored)
    try use(place, 1)
    let older = try place.bytes()
    try use(place, 2)
    let newer = try place.bytes()
    try place.write(older)
    return (place, newer)
  }

  @Test(arguments: [[], TestServer.startsByItself]) func anOlderImage(flags: [String]) throws {
    let (place, newer) = try rolledBack()
    let older = try place.bytes()
    for option in [[], ["--fail-on-encrypted-drive=no"]] {
      let outcome = try place.runServer(flags + option + Self.anchored)
      #expect(outcome.status == 7 && outcome.text.contains("accept-rollback"), "\(outcome.text)")
      #expect(try place.bytes() == older)
    }
    try place.write(newer)
    let server = try TestServer(place, TestServer.startsByItself + Self.anchored)
    #expect(try server.connect(.data).index() == [UInt8](repeating: 2, count: TPMCommand.indexSize))
    #expect(server.end() == 0)
  }

  /// The image is changed while the server waits for its key: it is compared when the key comes.
  @Test func anOlderImageWhileWaiting() throws {
    let (place, newer) = try rolledBack()
    let older = try place.bytes()
    try place.write(newer)
    place.key.remove()
    let server = try TestServer(place, MissingKeyTests.waits + TestServer.startsByItself + Self.anchored)
    #expect(server.isRunning)
    let file = try #require(FileHandle(forWritingAtPath: place.image))
    try file.write(contentsOf: Data(older))
    try file.close()
    place.key.load()
    #expect(server.wait() == 7, "\(server.log)")
    #expect(try place.bytes() == older)
  }

  @Test("killed, it goes on where it was, and its past is refused") func killed() throws {
    let place = try Place(["--profile", "tpm2"] + Self.anchored)
    try use(place, 1)
    let closed = try place.bytes()
    for value in 2...6 as ClosedRange<UInt8> {
      let server = try TestServer(place, TestServer.startsByItself + Self.anchored)
      let client = try server.connect(.data)
      #expect(try client.index() == [UInt8](repeating: value - 1, count: TPMCommand.indexSize))
      try client.run(TPMCommand.write(value))
      #expect(server.kill() == -SIGKILL)
      let after = try place.bytes()
      // The closed image from before this opening: its headers alone are what a rollback within one opening sets back.
      try place.write(closed)
      #expect(try place.runServer(TestServer.startsByItself + Self.anchored).status == 7)
      try place.write(after)
    }
  }

  @Test func aMissingAnchor() throws {
    let place = try Place()
    let before = try place.bytes()
    let outcome = try place.runServer(TestServer.startsByItself + Self.anchored)
    #expect(outcome.status == 7 && outcome.text.contains("missing"), "\(outcome.text)")
    #expect(try place.bytes() == before)
    let accepted = try place.run(["vnvram", "accept-rollback", place.image, "--anchor", "anchor", "--yes"])
    #expect(accepted.status == 0, "\(accepted.text)")
    try use(place, 1)
    try use(place, 2)
  }

  @Test func oneAnchorForTwoCopies() throws {
    let place = try Place(["--profile", "tpm2"] + Self.anchored)
    try use(place, 1)
    try place.write(try place.bytes(), "copy.vnvram")
    let server = try TestServer(place, TestServer.startsByItself + Self.anchored)
    let second = try place.run(["vnvram", "ls", place.path("copy.vnvram"), "--anchor", "anchor"])
    #expect(second.status == 9, "\(second.text)")
    #expect(server.end() == 0)
  }

  /// A machine is cloned with its TPM's folder, on a host with a folder of anchors: the copy says what it is and locks
  /// nobody out; as a store of its own it starts, as the message says. A folder that was moved isn't a copy.
  @Test func aClone() throws {
    let place = try Place.forFirstUse(state: "vm1")
    let script = """
      mkdir anchors; export VNVRAM_AUDIT_LOG=$PWD/audit
      start() {
        "$@" --daemon --log file=log.tpm --pid file=log.pid || return
        swtpm_ioctl --unix tpm.ctrl -s
      }
      run() { d=$1; shift; start vnvram-swtpm socket --tpm2 --tpmstate dir=$PWD/$d --keyring-key KEY --anchor $PWD/anchors \\
        --ctrl type=unixio,path=tpm.ctrl --flags startup-clear; }
      run vm1 || exit 50
      cp -a vm1 vm2
      run vm2 && exit 51
      run vm1 || exit 52
      image=$(cd vm2; ls | grep -v made)
      vnvram dump vm2/$image --der -o dump >/dev/null && rm vm2/$image || exit 56
      vnvram format vm2/$image --key KEY --profile tpm2 --anchor anchors >/dev/null &&
      vnvram import-stream vm2/$image dump --anchor anchors >/dev/null || exit 53
      run vm2 && run vm1 || exit 54
      mv vm1 vm3 && run vm3 || exit 55
      """
    let outcome = try place.run(["bash", "-c", script.replacingOccurrences(of: "KEY", with: place.key.name)])
    #expect(outcome.status == 0, "\(outcome.text)")
    for word in ["vm2/", "is a copy of", "vm1/", "import-stream"] {
      #expect(outcome.text.contains(word), "\(outcome.text)")
    }
  }

  @Test(arguments: ["", "generation:x", "tpm:7,a"]) func usage(text: String) throws {
    let place = try Place()
    let outcome = try place.runServer(["--anchor", text])
    #expect(outcome.status == 2 && outcome.text.contains("--anchor is"), "\(outcome.text)")
  }

  /// A TPM that is reached over TCP, anew by the confined server: by its address. A name is refused before anything is
  /// opened.
  @Test func aTPMOverTCP() throws {
    let place = try Place()
    let port = try Socket.freePorts()
    try FileManager.default.createDirectory(atPath: place.path("host"), withIntermediateDirectories: true)
    let host = try place.start(
      ["swtpm", "socket", "--tpm2", "--tpmstate", "dir=\(place.path("host"))"] + TestServer.ports(port)
        + TestServer.startsByItself)
    defer {
      host.kill()
      _ = host.wait()
    }
    while host.isRunning, (try? Socket(port: port)) == nil { usleep(3000) }
    let define = try place.run(
      ["tpm2_nvdefine", "0x1800100", "-C", "o", "-s", "8", "-a", "authread|authwrite|no_da|nt=counter"],
      environment: ["TPM2TOOLS_TCTI": "swtpm:host=127.0.0.1,port=\(port)"])
    #expect(define.status == 0, "\(define.text)")
    func anchor(_ host: String) -> [String] {
      ["--anchor", "tpm:0x1800100,\(place.path("anchor")),tcti=swtpm:host=\(host),port=\(port)"]
    }
    let accepted = try place.run(["vnvram", "accept-rollback", place.image, "--yes"] + anchor("127.0.0.1"))
    #expect(accepted.status == 0, "\(accepted.text)")

    let before = try place.bytes()
    let refused = try place.runServer(TestServer.startsByItself + anchor("localhost"))
    #expect(refused.status == 15 && refused.text.contains("must be a numeric address"), "\(refused.text)")
    #expect(try place.bytes() == before)
    for value in 1...2 as ClosedRange<UInt8> {
      let server = try TestServer(place, TestServer.startsByItself + anchor("127.0.0.1"))
      try #require(server.isRunning, "\(server.log)")
      let client = try server.connect(.data)
      if value == 1 { try client.run(TPMCommand.defineIndex) }
      try client.run(TPMCommand.write(value))
      #expect(server.end() == 0, "\(server.log)")
    }
  }
}
