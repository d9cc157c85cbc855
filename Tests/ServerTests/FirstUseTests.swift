import Foundation
import TestSupport
import Testing

/// The image of `--tpmstate dir=`, which the server makes by itself, and when it doesn't.
@Suite struct FirstUseTests {
  private static func key(_ place: Place) -> [String] { ["--keyring-key", place.key.name] }

  private static func mode(_ path: String) throws -> Int? {
    try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
  }

  @Test(arguments: [true, false]) func made(isTPM2: Bool) throws {
    let place = try Place.forFirstUse(isTPM2: isTPM2)
    let flags = ["--flags", "startup-clear"]
    var server = try TestServer(place, flags + Self.key(place), isTPM2: isTPM2)
    #expect(server.log.contains("\(place.image): made"), "\(server.log)")
    #expect(server.end() == 0)
    let names = try FileManager.default.contentsOfDirectory(atPath: place.path("state")).sorted()
    let name = isTPM2 ? "tpm2-00.vnvram" : "tpm-00.vnvram"
    #expect(names == [name, name + ".made"])
    #expect(try Self.mode(place.image) == 0o600)
    // As large, and with the entries, as `vnvram format` makes it.
    let profile = isTPM2 ? "tpm2" : "tpm1.2"
    let size = try place.run(["vnvram", "size", "--profile", profile]).text
    #expect(size == "\(try place.bytes().count)\n")
    #expect(try place.run(["vnvram", "format", "other", "--key", place.key.name, "--profile", profile]).status == 0)
    let entries = { (image: String) in
      try place.run(["vnvram", "ls", image]).text.split(separator: "\n").map { $0.split(separator: " ").dropFirst() }
    }
    #expect(try entries(place.image) == entries("other"))
    #expect(try place.run(["vnvram", "check", place.image]).status == 0)
    // The marker says which store it is of.
    let marker = String(decoding: try place.bytes("state/\(name).made"), as: UTF8.self)
    let info = try place.run(["vnvram", "info", place.image]).text
    let uuid = try #require(info.split(separator: "\n").first { $0.hasPrefix("uuid") }).split(separator: " ")[1]
    #expect(marker.contains(uuid) && marker.contains("remove this file"), "\(marker)")
    let records = String(decoding: try place.bytes("audit.jsonl"), as: UTF8.self)
    #expect(records.contains("\"formatted\"") && records.contains("to make an image"), "\(records)")
    // It is there now, and isn't made again; its slots say which key opens it.
    server = try TestServer(place, flags, isTPM2: isTPM2)
    #expect(!server.log.contains("made"), "\(server.log)")
    #expect(server.end() == 0)
  }

  @Test func withItsModeAndAnchor() throws {
    let place = try Place.forFirstUse()
    place.state = "backend-uri=dir://\(place.path("state")),mode=0640,lock"
    try FileManager.default.createDirectory(atPath: place.path("anchors"), withIntermediateDirectories: false)
    let arguments = TestServer.startsByItself + Self.key(place) + ["--anchor", place.path("anchors")]
    var server = try TestServer(place, arguments)
    try server.connect(.data).run(TPMCommand.defineIndex)
    #expect(server.end() == 0)
    #expect(try Self.mode(place.image) == 0o640)
    #expect(try FileManager.default.contentsOfDirectory(atPath: place.path("anchors")).count == 1)
    #expect(try place.run(["vnvram", "status", place.image, "--anchor", place.path("anchors")]).status == 0)
    server = try TestServer(place, arguments)
    try server.connect(.data).run(TPMCommand.write(1))
    #expect(server.end() == 0)
  }

  /// A path that isn't from the root is from the folder that the program was started in.
  @Test func relative() throws {
    let place = try Place.forFirstUse()
    place.state = "dir=state"
    #expect(try TestServer(place, TestServer.startsByItself + Self.key(place)).end() == 0)
    #expect(FileManager.default.fileExists(atPath: place.image))
  }

  @Test(.enabled(if: geteuid() == 0)) func asAnotherUser() throws {
    let place = try Place.forFirstUse()
    let nobody = try unsafe #require(getpwnam("nobody"))
    let (user, group) = unsafe (nobody.pointee.pw_uid, nobody.pointee.pw_gid)
    for path in [place.folder, place.path("state")] {
      let given = unsafe chown(path, user, group) == 0
      #expect(given)
    }
    let arguments = Self.key(place) + ["--runas", "nobody", "--audit", place.path("log-of-nobody")]
    let server = try TestServer(place, TestServer.startsByItself + arguments)
    try server.connect(.data).run(TPMCommand.defineIndex)
    #expect(server.end() == 0, "\(server.log)")
    for path in [place.image, place.image + ".made"] {
      #expect(try FileManager.default.attributesOfItem(atPath: path)[.ownerAccountID] as? Int == Int(user))
    }
  }

  // MARK: Not made

  private func expectNothingMade(_ place: Place, _ arguments: [String], status: Int32, _ words: String...) throws {
    let before = try FileManager.default.contentsOfDirectory(atPath: place.path("state")).sorted()
    for flags in [[], TestServer.startsByItself, ["--fail-on-encrypted-drive=no"]] {
      let outcome = try place.runServer(flags + arguments)
      #expect(outcome.status == status, "\(outcome.text)")
      for word in words { #expect(outcome.text.contains(word), "\(outcome.text)") }
    }
    #expect(try FileManager.default.contentsOfDirectory(atPath: place.path("state")).sorted() == before)
    #expect(place.names.filter { $0 != "state" } == [], "nothing listens")
  }

  @Test func withoutAKey() throws {
    let place = try Place.forFirstUse()
    try expectNothingMade(place, [], status: 3, place.image, "--keyring-key NAME", "--key")
    place.key.remove()
    try expectNothingMade(place, Self.key(place), status: 3, place.image, place.key.name)
    place.key.load()
    place.key.revoke()
    try expectNothingMade(place, Self.key(place), status: 5, place.image, place.key.name)
    place.key.load()
    try expectNothingMade(place, Self.key(place) + ["--audit", "/dev/full"], status: 12, "/dev/full")
    #expect(try TestServer(place, TestServer.startsByItself + Self.key(place)).end() == 0)
  }

  @Test(arguments: [
    "tpm2-00.permall", "tpm2-00.volatilestate", "tpm-00.permall", "tpm-00.volatilestate", "tpm-00.savestate", "NVChip",
  ]) func besideSwtpmsState(name: String) throws {
    let place = try Place.forFirstUse()
    try place.write([], "state/\(name)")
    let kind = name.hasPrefix("tpm-") ? "tpm" : "tpm2"
    let command = "vnvram import-swtpm \(place.path("state")) \(place.path("state"))/\(kind)-00.vnvram --key"
    try expectNothingMade(place, Self.key(place), status: 15, name, command)
  }

  /// --tpm2 that was forgotten, or given by mistake.
  @Test(arguments: ["tpm-00.vnvram", "tpm-00.vnvram.made"]) func besideTheOtherKind(name: String) throws {
    let place = try Place.forFirstUse()
    try place.write([], "state/\(name)")
    try expectNothingMade(place, Self.key(place), status: 15, name, "start it without --tpm2")
  }

  @Test func noFolder() throws {
    let place = try Place.forFirstUse()
    for state in ["dir=\(place.path("nowhere"))", "dir=\(place.path("state"))/x/"] {
      place.state = state
      try expectNothingMade(place, Self.key(place), status: 11, String(state.dropFirst(4).prefix { $0 != "x" }))
    }
  }

  /// What was made and is gone is not made again, until somebody says so by removing the marker.
  @Test func deleted() throws {
    let place = try Place.forFirstUse()
    let arguments = TestServer.startsByItself + Self.key(place)
    #expect(try TestServer(place, arguments).end() == 0)
    let good = try place.bytes()
    try FileManager.default.removeItem(atPath: place.image)
    try expectNothingMade(place, Self.key(place), status: 11, "made before and is gone", place.image + ".made")
    try place.write(good, "state/tpm2-00.vnvram")
    #expect(try TestServer(place, arguments).end() == 0)
    for path in [place.image, place.image + ".made"] { try FileManager.default.removeItem(atPath: path) }
    #expect(try TestServer(place, arguments).end() == 0)
    #expect(try place.bytes() != good)
  }

  /// An image that came there in another way gets its marker when it is used.
  @Test func broughtThere() throws {
    let place = try Place.forFirstUse()
    let format = try place.run(["vnvram", "format", place.image, "--key", place.key.name, "--profile", "tpm2"])
    try #require(format.status == 0, "\(format.text)")
    #expect(try TestServer(place, TestServer.startsByItself).end() == 0)
    try FileManager.default.removeItem(atPath: place.image)
    try expectNothingMade(place, Self.key(place), status: 11, "made before and is gone")
  }

  /// Whatever has the image's name is not replaced: something empty, damaged, or a link that leads nowhere.
  @Test func whatIsThereStays() throws {
    let place = try Place.forFirstUse()
    for bytes in [[], [UInt8](repeating: 0, count: 4096), (0..<65_536).map { _ in UInt8.random(in: 0...255) }] {
      try place.write(bytes)
      try? FileManager.default.removeItem(atPath: place.image + ".made")
      #expect(try place.runServer(Self.key(place)).status == 8)
      #expect(try place.bytes() == bytes)
    }
    try FileManager.default.removeItem(atPath: place.image)
    try FileManager.default.createSymbolicLink(atPath: place.image, withDestinationPath: place.path("elsewhere"))
    #expect(try place.runServer(Self.key(place)).status == 11)
    #expect(!FileManager.default.fileExists(atPath: place.path("elsewhere")))
  }

  /// Killed at any moment of its first start, it leaves no image or a whole one, and a marker only beside one.
  @Test func killed() throws {
    let place = try Place.forFirstUse()
    var (made, rounds) = (0, 0)
    // On a busy machine, until it comes to make one at all.
    while rounds < 40 || made == 0 && rounds < 120 {
      rounds += 1
      let child = try place.start(
        ["vnvram-swtpm", "socket", "--tpm2", "--tpmstate", place.state ?? ""] + TestServer.unixSockets(place.folder)
          + Self.key(place))
      usleep(UInt32.random(in: 2000...(rounds < 40 ? 100_000 : 1_000_000)))
      child.kill()
      _ = child.wait()
      let names = try FileManager.default.contentsOfDirectory(atPath: place.path("state")).sorted()
      if names == [] { continue }
      made += 1
      #expect(names == ["tpm2-00.vnvram"] || names == ["tpm2-00.vnvram", "tpm2-00.vnvram.made"], "\(names)")
      #expect(try place.run(["vnvram", "check", place.image]).status == 0)
      let server = try TestServer(place, TestServer.startsByItself + Self.key(place))
      #expect(server.end() == 0, "\(server.log)")
      #expect(FileManager.default.fileExists(atPath: place.image + ".made"))
      for name in ["tpm2-00.vnvram", "tpm2-00.vnvram.made"] {
        try FileManager.default.removeItem(atPath: place.path("state/\(name)"))
      }
    }
    print("killed at its first start: \(made) of \(rounds) had made an image")
    #expect(made > 0, "it was always killed before")
  }
}
