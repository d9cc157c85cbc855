import Foundation
import TestSupport
import Testing

/// What one server has and another can't have.
@Suite struct SharedPlacesTests {
  @Test func image() throws {
    let place = try Place()
    let server = try TestServer(place)
    let client = try server.connect(.data)
    try client.run(TPMCommand.defineIndex)
    for wait in ["yes", "no"] {
      let ports = TestServer.ports(try Socket.freePorts())
      let arguments = TestServer.startsByItself + ["--fail-on-encrypted-drive=\(wait)"]
      let second = try place.run(TestServer.command(place.image, ports, arguments))
      #expect(second.status == 9, "\(second.text)")
    }
    #expect(try place.run(["vnvram", "put", place.image, "permall", "/dev/null"]).status == 9)
    try client.run(TPMCommand.write(1))
    #expect(server.end() == 0)
  }

  /// A server that waits for a key has the image too.
  @Test func imageOfAServerThatWaits() throws {
    let place = try Place()
    place.key.remove()
    let server = try TestServer(place, ["--fail-on-encrypted-drive=no"])
    let ports = TestServer.ports(try Socket.freePorts())
    #expect(try place.run(TestServer.command(place.image, ports, [])).status == 9)
    #expect(server.end() == 0)
  }

  @Test(arguments: ["--server", "--ctrl"]) func port(option: String) throws {
    let place = try Place()
    let (descriptor, port) = try Socket.listen()
    defer { close(descriptor) }
    let outcome = try place.run(
      TestServer.command(place.image, [option, "type=tcp,port=\(port)"], TestServer.startsByItself))
    #expect(outcome.status == 9, "\(outcome.text)")
    #expect(outcome.text.contains("\(port)"), "\(outcome.text)")
    #expect(try place.wasClosedCleanly())
  }

  @Test func unixSocket() throws {
    let place = try Place()
    let other = try Place()
    let server = try TestServer(place)
    let outcome = try other.run(
      TestServer.command(other.image, TestServer.unixSockets(place.folder), TestServer.startsByItself))
    #expect(outcome.status == 9, "\(outcome.text)")
    // The first one's sockets are still its own.
    try server.connect(.data).run(TPMCommand.getRandom)
    #expect(server.kill() == -SIGKILL)
    // Those of a server that is dead are replaced.
    let next = try TestServer(place)
    try next.connect(.data).run(TPMCommand.getRandom)
    #expect(next.end() == 0)
  }

  /// The old one is told to end, and the next one started at once: that one's sockets stay. (Before, 3 of 60 lost one.)
  @Test func restartsAtOnce() throws {
    let place = try Place()
    var server = try TestServer(place)
    for round in 0..<40 {
      server.signal(SIGTERM)
      var next = try TestServer(place)
      #expect(server.wait() == 0, "\(server.log)")
      // On a busy machine the old one may have had the image for longer than is waited for.
      if !next.isRunning {
        let status = next.wait()
        #expect(status == 9, "\(next.log)")
        next = try TestServer(place)
      }
      server = next
      try Self.expectServed(server, round)
    }
    #expect(server.end() == 0)
    #expect(place.names == ["tpm.vnvram"])
  }

  /// It may have been the old server that answered so far.
  private static func expectServed(_ server: TestServer, _ round: Int) throws {
    for channel in [TestServer.Channel.data, .control] {
      var isConnected = false
      for _ in 0..<10_000 where !isConnected && server.isRunning {
        isConnected = (try? server.connect(channel)) != nil
        if !isConnected { usleep(2000) }
      }
      try #require(isConnected, "\(round): \(channel): \(server.log)")
    }
  }

  /// Sockets that were given other names, and another server's by the old ones.
  @Test func renamedSockets() throws {
    let (place, other) = (try Place(), try Place())
    let first = try TestServer(place)
    for name in ["tpm", "tpm.ctrl"] {
      try FileManager.default.moveItem(atPath: place.path(name), toPath: place.path("log-\(name)"))
    }
    let second = try TestServer(other, folder: place.folder)
    #expect(first.end() == 0)
    try second.connect(.data).run(TPMCommand.getRandom)
    #expect(try second.connect(.control).ask([0, 0, 0, 3]) == [0, 0, 0, 0])
    #expect(second.wait() == 0)
    #expect(place.names == ["tpm.vnvram"])
  }
}
