import Foundation
import TestSupport
import Testing

/// A state that comes to a server whose folder is empty (`--migration incoming`), as from a host with storage of its
/// own.
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

  /// It goes on where it was, and is the same after a reboot of the target, with a kernel key and with one that is
  /// handed over.
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

  /// What it made is its own until a state came: nobody else makes a TPM of it, which would go in the end.
  @Test func nobodyElseHasIt() throws {
    let place = try Place.forFirstUse()
    let key = ["--keyring-key", place.key.name]
    let server = try TestServer(place, key + Self.incoming)
    let second = try place.run(
      ["vnvram-swtpm", "socket", "--tpm2", "--tpmstate", place.state ?? "", "--ctrl", "type=unixio,path=second"]
        + TestServer.startsByItself + key)
    #expect(second.status == 9, "\(second.text)")
    #expect(try server.connect(.control).ask([0, 0, 0, 3]) == Self.done)
    #expect(try FileManager.default.contentsOfDirectory(atPath: place.path("state")).isEmpty, "before the answer")
    #expect(server.wait() == 0)
  }

  /// Somebody threw away what it had made, and made a TPM in the same folder: that stays.
  @Test func anotherTPMMeanwhile() throws {
    let place = try Place.forFirstUse()
    let key = ["--keyring-key", place.key.name]
    let server = try TestServer(place, key + Self.incoming)
    for path in [place.image, place.marker] { try FileManager.default.removeItem(atPath: path) }
    try FileManager.default.createDirectory(atPath: place.path("sockets"), withIntermediateDirectories: false)
    let other = try TestServer(place, TestServer.startsByItself + key, folder: place.path("sockets"))
    try other.connect(.data).run(TPMCommand.defineIndex)
    #expect(other.end() == 0, "\(other.log)")
    let image = try place.bytes()
    #expect(server.end() == 0)
    #expect(try place.bytes() == image && File.exists(place.marker))
    let again = try TestServer(place, TestServer.startsByItself)
    try again.connect(.data).run(TPMCommand.write(1))
    #expect(again.end() == 0)
  }

  // MARK: What lies there

  /// swtpm's state is not served, which is said at once, and how it comes over.
  @Test(arguments: DebianSwtpm.Storage.allCases) func swtpmsState(storage: DebianSwtpm.Storage) throws {
    let place = try Place.forFirstUse()
    if storage == .singleFile {
      place.image = place.path("file")
      place.state = "backend-uri=file://\(place.image)"
    }
    do { _ = try DebianSwtpm(place, storage, storage == .directory ? place.path("state") : place.image) }
    let state = try place.bytes()
    for more in [[], ["--make-on-first-use"]] {
      let outcome = try place.runServer(["--keyring-key", place.key.name] + Self.incoming + more)
      #expect(outcome.status == 15 && outcome.text.contains("vnvram import-swtpm"), "\(outcome.text)")
    }
    #expect(try place.bytes() == state)
  }

  /// A blank or missing file is made an image where the options say so, as any other start does it; else it is refused.
  @Test(arguments: FirstUseFileTests.Kind.all) func aFile(kind: FirstUseFileTests.Kind) throws {
    let disk = try FirstUseFileTests.Disk(kind)
    let place = disk.place
    let key = ["--keyring-key", place.key.name]
    let refused = try place.runServer(key + Self.incoming)
    #expect(refused.status == (kind == .nothing ? 11 : 8), "\(refused.text)")
    #expect(refused.text.contains(kind == .nothing ? place.image : "--make-on-first-use"), "\(refused.text)")
    let options = key + ["--make-on-first-use"]
    // It stays, without a state, for the next one.
    for _ in 0..<2 { #expect(try TestServer(place, options + Self.incoming).end() == 0) }
    let server = try TestServer(place, options + Self.incoming)
    #expect(try server.connect(.control).ask(Self.initialize) == Self.done, "\(server.log)")
    #expect(server.end() == 0)
    #expect(try place.wasClosedCleanly())
    #expect(disk.markers.count == 1)
  }

  /// An image that another server has, on a device or in a folder, is marked as with any other start.
  @Test(arguments: [true, false]) func theMarker(isInFolder: Bool) throws {
    let place = try Place.forFirstUse()
    if !isInFolder {
      place.image = place.path("file")
      place.state = "backend-uri=file://\(place.image)"
    }
    let format = try place.run(["vnvram", "format", place.image, "--key", place.key.name, "--profile", "tpm2"])
    try #require(format.status == 0, "\(format.text)")
    try? FileManager.default.removeItem(atPath: place.marker)
    let server = try TestServer(place, Self.incoming + ["--make-on-first-use"])
    #expect(try server.connect(.control).ask(Self.initialize) == Self.done, "\(server.log)")
    #expect(server.end() == 0)
    #expect(File.exists(isInFolder ? place.marker : place.path("markers")))
  }

  /// Without a key there is nothing to make it with, which is said at once.
  @Test func noKey() throws {
    let place = try Place.forFirstUse()
    let outcome = try place.runServer(Self.incoming)
    #expect(outcome.status == 3 && outcome.text.contains("--keyring-key"), "\(outcome.text)")
  }
}
