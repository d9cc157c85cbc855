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
}
