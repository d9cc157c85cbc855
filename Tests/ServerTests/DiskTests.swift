import Foundation
import TestSupport
import Testing

/// Disks that are full, files that may not grow, and a file system that becomes read-only in the middle of work: an
/// error that says what is wrong, and once the cause is gone the store opens with everything that was acknowledged. On
/// a real ext4.
@Suite struct DiskTests {
  static let ext4 = ConditionTrait.enabled(
    if: LoopFileSystem.isPermitted, "mount(8) of a loop device is not permitted here")

  /// A place whose image lies on a file system of its own.
  private func makeDisk(megabytes: Int = 16, _ layout: [String] = ["--profile", "tpm2", "--entry", "extra=4K"]) throws
    -> (
      Place, LoopFileSystem
    )
  {
    let place = try Place()
    let disk = try LoopFileSystem(in: place.folder, megabytes: megabytes)
    place.image = disk.path + "/tpm.vnvram"
    let format = try place.run(["vnvram", "format", place.image, "--key", place.key.name] + layout)
    try #require(format.status == 0, "\(format.text)")
    return (place, disk)
  }

  /// A server with an index that holds 1.
  private func seeded(_ place: Place) throws -> TestServer {
    let server = try TestServer(place)
    let client = try server.connect(.data)
    for command in [TPMCommand.defineIndex, TPMCommand.write(1)] {
      let response = client.ask(command)
      try #require(TPMCommand.code(response) == 0, "\(response) \(server.log)")
    }
    return server
  }

  /// Writes counted bytes until the TPM says no, at most `limit` times; the last that it acknowledged.
  private func writeUntilRefused(_ server: TestServer, from first: UInt8, limit: Int) throws -> (
    last: UInt8, refused: Bool
  ) {
    let client = try server.connect(.data)
    var last = first
    for _ in 0..<limit {
      guard TPMCommand.code(client.ask(TPMCommand.write(last &+ 1))) == 0 else { return (last, true) }
      last &+= 1
    }
    return (last, false)
  }

  private func expectIndex(_ place: Place, _ allowed: Set<UInt8>) throws {
    let server = try TestServer(place)
    guard let found = try? server.connect(.data).index() else {
      Issue.record("no index: \(server.log)")
      return
    }
    #expect(Set(found).count == 1 && allowed.contains(found[0]), "\(found.prefix(1)), allowed \(allowed)")
    #expect(server.end() == 0)
    let check = try place.run(["vnvram", "check", place.image])
    #expect(check.status == 0, "\(check.text)")
  }

  // MARK: Full

  @Test("a disk filled to the last byte: what is there goes on as before, what needs room is told", ext4)
  func full() throws {
    let (place, disk) = try makeDisk()
    let server = try seeded(place)
    try disk.fill()
    // No commit takes space, so a full disk is none of the TPM's business: 200 writes, several times round the ring.
    let (last, refused) = try writeUntilRefused(server, from: 1, limit: 200)
    #expect(!refused && last == 201, "\(last): \(server.log) \(server.isRunning)")
    #expect(server.end() == 0)
    try place.write([UInt8](repeating: 7, count: 500), "content")
    for command in [
      ["put", place.image, "extra", "content"], ["scrub", place.image], ["check", place.image],
    ] {
      let outcome = try place.run(["vnvram"] + command)
      #expect(outcome.status == 0, "\(command): \(outcome.text)")
    }
    // What needs space gets none, says so, and leaves nothing behind.
    for command in [
      ["format", disk.path + "/b", "--key", place.key.name, "--profile", "tpm2"],
      ["get", place.image, "permall", "-o", disk.path + "/out"],
      ["dump", place.image, "--der", "-o", disk.path + "/out"],
    ] {
      let outcome = try place.run(["vnvram"] + command)
      #expect(outcome.status == 10, "\(command): \(outcome.text)")
      #expect(outcome.text.contains("space"), "\(outcome.text)")
    }
    let names = try FileManager.default.contentsOfDirectory(atPath: disk.path).sorted()
    #expect(names == ["fill", "lost+found", "tpm.vnvram"])
    // A record of uses that can't be written: the key isn't used.
    let before = try place.bytes()
    for arguments in [
      ["vnvram", "get", place.image, "permall", "--audit", disk.path + "/audit"],
      ["vnvram", "scrub", place.image, "--audit", disk.path + "/audit"],
    ] {
      let outcome = try place.run(arguments)
      #expect(outcome.status == 12, "\(outcome.text)")
    }
    #expect(try place.runServer(TestServer.startsByItself + ["--audit", disk.path + "/audit"]).status == 12)
    #expect(try place.bytes() == before)
    try expectIndex(place, [201])
    try disk.makeRoom()
    try expectIndex(place, [201])
  }

  /// Someone made the image sparse (`fallocate --punch-hole`, `cp --sparse`): its ring's zeros take no space until they
  /// are written, and then there may be none. So it is whole before anything is written, or refused.
  @Test("a sparse image on a full disk is refused as it is, and whole where there is room", ext4) func sparse() throws {
    let (place, disk) = try makeDisk()
    var server = try seeded(place)
    #expect(server.end() == 0)
    // The ring begins at 131072 and ends where the leaves begin (FORMAT sections 1, 2).
    let length = Place.headerField(try place.bytes(), at: 88) - 131_072
    let punch = try place.run(
      ["fallocate", "--punch-hole", "--offset", "131072", "--length", "\(length)", place.image])
    try #require(punch.status == 0, "\(punch.text)")
    let before = try place.bytes()
    try disk.fill()
    let refusal = try place.runServer(TestServer.startsByItself)
    #expect(refusal.status == 10, "\(refusal.text)")
    #expect(refusal.text.contains(place.image) && refusal.text.contains("space"), "\(refusal.text)")
    try place.write([UInt8](repeating: 7, count: 500), "content")
    let put = try place.run(["vnvram", "put", place.image, "extra", "content"])
    #expect(put.status == 10, "\(put.text)")
    #expect(put.text.contains(place.image) && put.text.contains("space"), "\(put.text)")
    #expect(try place.run(["vnvram", "get", place.image, "permall", "-o", "got"]).status == 0, "reading needs no room")
    #expect(try place.bytes() == before)
    try disk.makeRoom()
    server = try TestServer(place)
    try #require(server.isRunning, "\(server.log)")
    try disk.fill()
    let (last, refused) = try writeUntilRefused(server, from: 1, limit: 200)
    #expect(!refused && last == 201, "\(last): \(server.log)")
    #expect(server.end() == 0)
    try expectIndex(place, [last])
  }

  // MARK: RLIMIT_FSIZE

  @Test("a file-size limit in the middle of work is told, not a signal, and loses nothing") func fileSizeLimit() throws
  {
    let place = try Place(["--profile", "tpm2", "--entry", "extra=64K"])
    var server = try seeded(place)
    let limited = try server.worker
    // The running server's limit becomes 160 KiB: the headers and the start of the ring may be written, no more.
    let limit = try place.run(["prlimit", "--pid", "\(limited)", "--fsize=163840:163840"])
    try #require(limit.status == 0, "\(limit.text)")
    let (last, refused) = try writeUntilRefused(server, from: 1, limit: 200)
    #expect(refused)
    #expect(
      server.log.contains("too large") || server.log.contains("limit") || server.log.contains("space"), "\(server.log)")
    let status = server.end()
    #expect(status == 10 || status == 11, "\(status): \(server.log)")
    try expectIndex(place, [last, last &+ 1])
    // And commands begun under one.
    try place.write([UInt8](repeating: 7, count: 60_000), "content")
    for command in ["put \(place.image) extra content", "scrub \(place.image)"] {
      let outcome = try place.run(["bash", "-c", "ulimit -f 64; exec vnvram \(command)"])
      #expect(outcome.status == 10 || outcome.status == 11, "\(command): \(outcome.text)")
      #expect(outcome.text.contains(place.image), "\(outcome.text)")
    }
    server = try TestServer(place)
    #expect(try server.connect(.data).index().first.map { [last, last &+ 1].contains($0) } == true)
    #expect(server.end() == 0)
  }

  // MARK: Read-only

  @Test(
    "a file system that becomes read-only in the middle of work: refused, told, and all there when it is mended", ext4)
  func readOnlyInTheMiddle() throws {
    let (place, disk) = try makeDisk()
    let server = try TestServer(place)
    try server.connect(.data).run(TPMCommand.defineIndex)
    let (before, refusedEarly) = try writeUntilRefused(server, from: 0, limit: 20)
    #expect(!refusedEarly && before == 20)
    try disk.failReadOnly()
    let (last, refused) = try writeUntilRefused(server, from: before, limit: 20)
    #expect(refused)
    #expect(server.log.contains(place.image), "\(server.log)")
    #expect(try TPMCommand.code(server.connect(.data).ask(TPMCommand.write(250))) != 0)
    #expect(server.end() == 11, "\(server.log)")
    // Another program now: reading works, writing is told.
    try place.write([UInt8](repeating: 7, count: 500), "content")
    let put = try place.run(["vnvram", "put", place.image, "extra", "content"])
    #expect(put.status == 11, "\(put.text)")
    #expect(put.text.contains("ead-only") || put.text.contains("read only"), "\(put.text)")
    #expect(try place.run(["vnvram", "get", place.image, "permall", "-o", "got"]).status == 0)
    #expect(try place.runServer(TestServer.startsByItself).status == 11)
    try disk.repair()
    try expectIndex(place, [last, last &+ 1])
    #expect(try place.run(["vnvram", "put", place.image, "extra", "content"]).status == 0)
  }
}
