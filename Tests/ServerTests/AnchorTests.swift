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
