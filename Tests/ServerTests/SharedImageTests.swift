import Foundation
import TestSupport
import Testing

/// Two servers and one image, as on storage that two hosts have; and images of a TPM 1.2.
@Suite struct SharedImageTests {
  /// GET_STATEBLOB of the three states in QEMU's order.
  private func fetch(_ control: Socket) -> [[UInt8]] {
    (1...3).map { (type: UInt8) in
      control.send([0, 0, 0, 0xC, 0, 0, 0, 1, 0, 0, 0, type, 0, 0, 0, 0])
      var answer = control.receive(atLeast: 16)
      let size = answer[12..<16].reduce(0) { $0 << 8 | Int($1) }
      answer += control.receive(atLeast: 16 + size - answer.count)
      return Array(answer.dropFirst(16))
    }
  }

  private func give(_ blobs: [[UInt8]], _ control: Socket) {
    for (index, blob) in blobs.enumerated() where !blob.isEmpty {
      let size = (0..<4).map { UInt8(truncatingIfNeeded: blob.count >> (24 - 8 * $0)) }
      control.send([0, 0, 0, 0xD, 0, 0, 0, 0, 0, 0, 0, UInt8(index + 1)] + size + blob)
      #expect(control.receive() == [0, 0, 0, 0])
    }
  }

  private static let initialize: [UInt8] = [0, 0, 0, 2, 0, 0, 0, 0]
  private static let done: [UInt8] = [0, 0, 0, 0]

  /// A machine moves, with a migration key, and the image stays: it is whole, and closed cleanly, at every change of
  /// hands.
  @Test func aMove() throws { try move(try Place()) }

  /// The image is on a block device, which is asked for its size when it is opened again.
  @Test(.enabled(if: LoopFileSystem.isPermitted, "losetup(8) is not permitted here")) func aMoveOfABlockDevice() throws
  {
    let place = try Place()
    let attached = try place.run(["losetup", "--find", "--show", place.image])
    try #require(attached.status == 0, "\(attached.text)")
    place.image = String(attached.text.dropLast())
    defer { _ = try? place.run(["losetup", "--detach", place.image]) }
    try move(place)
  }

  /// The key that was handed over opens the image each time it is had again.
  @Test func aMoveWithAKey() throws {
    let place = try Place.forFirstUse()
    try place.write(Array("open, sesame".utf8), "password")
    try move(place, ["--key", "pwdfile=\(place.path("password"))"], check: ["--passphrase-fd", "5"])
  }

  private func move(_ place: Place, _ opening: [String] = [], check: [String] = []) throws {
    try place.write([UInt8](repeating: 0x5A, count: 32), "migration.key")
    let key = opening + ["--migration-key", "file=\(place.path("migration.key")),format=binary,mode=aes-256-cbc"]
    let source = try TestServer(place, TestServer.startsByItself + key + ["--migration", "release-lock-outgoing"])
    let data = try source.connect(.data)
    try data.run(TPMCommand.defineIndex)
    try data.run(TPMCommand.write(1))
    try FileManager.default.createDirectory(atPath: place.path("target"), withIntermediateDirectories: false)
    let target = try TestServer(
      place, key + ["--migration", "release-lock-outgoing,incoming"], folder: place.path("target"))
    let (theirData, theirControl) = (try target.connect(.data), try target.connect(.control))
    let control = try source.connect(.control)
    let blobs = fetch(control)
    #expect(try place.wasClosedCleanly())
    give(blobs, theirControl)
    #expect(theirControl.ask(Self.initialize) == Self.done)
    #expect(try theirData.index() == [UInt8](repeating: 1, count: TPMCommand.indexSize))
    try theirData.run(TPMCommand.write(2))
    // The source can't have it back.
    #expect(control.ask([0, 0, 0, 0x13, 0, 0, 0, 3]) == [0, 0, 0, 9])
    #expect(source.end() == 0)
    #expect(try theirData.index() == [UInt8](repeating: 2, count: TPMCommand.indexSize))
    #expect(target.end() == 0)
    #expect(try place.wasClosedCleanly())
    let password = FileManager.default.fileExists(atPath: place.path("password")) ? "5<password" : ""
    let checked = try place.run([
      "bash", "-c", "vnvram check \(([place.image] + check).joined(separator: " ")) \(password)",
    ])
    #expect(checked.status == 0, "\(checked.text)")
  }

  /// The target dies before it did anything: the source goes on, under the same lock as before.
  @Test func aMoveThatFails() throws {
    let place = try Place()
    let source = try TestServer(place, TestServer.startsByItself + ["--migration", "release-lock-outgoing"])
    let (data, control) = (try source.connect(.data), try source.connect(.control))
    try data.run(TPMCommand.defineIndex)
    _ = fetch(control)
    #expect(control.ask([0, 0, 0, 0x13, 0, 0, 1, 0x2C]) == Self.done)
    try data.run(TPMCommand.write(3))
    // Another server, with sockets of its own.
    try FileManager.default.createDirectory(atPath: place.path("other"), withIntermediateDirectories: false)
    let sockets = TestServer.unixSockets(place.path("other"))
    let other = try place.start(TestServer.command(place.image, sockets, TestServer.startsByItself))
    #expect(other.wait() == 9, "\(other.text)")
    _ = fetch(control)
    // Without being asked, by the next command.
    try data.run(TPMCommand.write(4))
    #expect(try data.index() == [UInt8](repeating: 4, count: TPMCommand.indexSize))
    #expect(source.end() == 0)
  }

  /// A TPM 1.2, its three states in an image of the profile tpm1.2.
  @Test func tpm12() throws {
    let place = try Place(["--profile", "tpm1.2"])
    var server = try TestServer(place, isTPM2: false)
    var data: Socket? = try server.connect(.data)
    // TPM_GetRandom of 4 bytes; TPM_Extend and TPM_PCRRead of PCR 10; TPM_SaveState.
    let random = try #require(data?.ask([0, 0xC1, 0, 0, 0, 14, 0, 0, 0, 0x46, 0, 0, 0, 4]))
    #expect(random.count == 18 && TPMCommand.code(random) == 0)
    let extend: [UInt8] = [0, 0xC1, 0, 0, 0, 34, 0, 0, 0, 0x14, 0, 0, 0, 10] + [UInt8](repeating: 0x5A, count: 20)
    let extended = try #require(data?.ask(extend))
    #expect(extended.count == 30 && TPMCommand.code(extended) == 0)
    #expect(TPMCommand.code(try #require(data?.ask([0, 0xC1, 0, 0, 0, 10, 0, 0, 0, 0x98]))) == 0)
    data = nil
    #expect(server.kill() == -SIGKILL)
    server = try TestServer(place, ["--flags", "startup-state"], isTPM2: false)
    data = try server.connect(.data)
    let read: [UInt8] = [0, 0xC1, 0, 0, 0, 14, 0, 0, 0, 0x15, 0, 0, 0, 10]
    #expect(data?.ask(read) == extended, "what TPM_SaveState kept")
    #expect(server.end() == 0)
    let listing = try place.run(["vnvram", "ls", place.image])
    for name in ["permall", "volatilestate", "savestate"] { #expect(listing.text.contains(name)) }
    // A TPM 2.0 doesn't start from it.
    let other = try place.runServer(TestServer.startsByItself)
    #expect(other.status != 0, "\(other.text)")
  }
}
