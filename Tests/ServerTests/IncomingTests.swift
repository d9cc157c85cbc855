import Foundation
import TestSupport
import Testing

/// A state that comes to a server whose folder is empty (`--migration incoming`), as from a host with storage of its own.
@Suite struct IncomingTests {
  private static let incoming = ["--migration", "incoming"]
  private static let initialize: [UInt8] = [0, 0, 0, 2, 0, 0, 0, 0]
  private static let done: [UInt8] = [0, 0, 0, 0]

  /// GET_STATEBLOB of the permanent and the volatile state.
  private func fetch(_ control: Socket) -> [[UInt8]] {
    (1...2).map { (type: UInt8) in
      control.send([0, 0, 0, 0xC, 0, 0, 0, 1, 0, 0, 0, type, 0, 0, 0, 0])
      var answer = control.receive(atLeast: 16)
      let size = answer[12..<16].reduce(0) { $0 << 8 | Int($1) }
      answer += control.receive(atLeast: 16 + size - answer.count)
      return Array(answer.dropFirst(16))
    }
  }

  private func give(_ blobs: [[UInt8]], _ control: Socket) {
    for (index, blob) in blobs.enumerated() {
      let size = (0..<4).map { UInt8(truncatingIfNeeded: blob.count >> (24 - 8 * $0)) }
      control.send([0, 0, 0, 0xD, 0, 0, 0, 0, 0, 0, 0, UInt8(index + 1)] + size + blob)
      #expect(control.receive() == Self.done)
    }
  }

  /// It goes on where it was, and is the same after a reboot of the target, with a kernel key and with one that is handed over.
  @Test(arguments: [false, true]) func aStateComes(isHandedOver: Bool) throws {
    let source = try Place()
    var server = try TestServer(source)
    try server.connect(.data).run(TPMCommand.defineIndex)
    try server.connect(.data).run(TPMCommand.write(7))
    let blobs = fetch(try server.connect(.control))
    #expect(server.end() == 0)

    let place = try Place.forFirstUse()
    try place.write([UInt8](repeating: 9, count: 32), "key")
    let key = isHandedOver ? ["--key", "file=key,format=binary,mode=aes-256-cbc"] : ["--keyring-key", place.key.name]
    server = try TestServer(place, key + Self.incoming)
    let control = try server.connect(.control)
    give(blobs, control)
    #expect(control.ask(Self.initialize) == Self.done, "\(server.log)")
    #expect(try server.connect(.data).index() == [UInt8](repeating: 7, count: TPMCommand.indexSize))
    #expect(control.ask([0, 0, 0, 3]) == Self.done)
    #expect(server.wait() == 0)
    server = try TestServer(place, key + TestServer.startsByItself)
    #expect(try server.connect(.data).index() == [UInt8](repeating: 7, count: TPMCommand.indexSize))
    #expect(server.end() == 0)
  }

  /// Nothing stays that could be taken for a TPM; another attempt succeeds.
  @Test func nothingCame() throws {
    let place = try Place.forFirstUse()
    let key = ["--keyring-key", place.key.name]
    for _ in 0..<2 {
      let server = try TestServer(place, key + Self.incoming)
      #expect(server.isRunning, "\(server.log)")
      #expect(server.end() == 0)
      #expect(try FileManager.default.contentsOfDirectory(atPath: place.path("state")).isEmpty)
    }
    let server = try TestServer(place, key + Self.incoming)
    #expect(try server.connect(.control).ask(Self.initialize) == Self.done, "\(server.log)")
    #expect(server.end() == 0)
    #expect(try place.wasClosedCleanly())
  }

  /// Without a key there is nothing to make it with, which is said at once.
  @Test func noKey() throws {
    let place = try Place.forFirstUse()
    let outcome = try place.runServer(Self.incoming)
    #expect(outcome.status == 3 && outcome.text.contains("--keyring-key"), "\(outcome.text)")
  }
}
