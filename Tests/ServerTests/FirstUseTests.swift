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
    let kind = isTPM2 ? "tpm2" : "tpm"
    #expect(names == ["\(kind)-00.made.permall", "\(kind)-00.permall"])
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
    let marker = String(decoding: try place.bytes("state/\(kind)-00.made.permall"), as: UTF8.self)
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
    for path in [place.image, place.marker] {
      #expect(try FileManager.default.attributesOfItem(atPath: path)[.ownerAccountID] as? Int == Int(user))
    }
  }

  /// A file system with neither files without a name nor renameat2's RENAME_NOREPLACE, as NFS: strace stands in for it.
  @Test(.enabled(if: SystemCallTrace.isAvailable, "strace can't trace processes here")) func onASimplerFileSystem()
    throws
  {
    let place = try Place.forFirstUse()
    let trace = place.path("log.trace")
    let strace = [
      "strace", "-f", "-qq", "-o", trace, "-e", "trace=renameat2,access,faccessat,faccessat2", "-e",
      "inject=renameat2:error=EINVAL", "-e", "inject=access,faccessat,faccessat2:error=ENOENT",
    ]
    let server = try place.start(
      strace + ["vnvram-swtpm", "socket", "--tpm2", "--tpmstate", place.state ?? ""]
        + TestServer.unixSockets(place.folder) + TestServer.startsByItself + Self.key(place))
    var control: Socket?
    while server.isRunning, control == nil {
      control = try? Socket(path: place.path("tpm.ctrl"))
      usleep(2000)
    }
    #expect(control?.ask([0, 0, 0, 3]) == [0, 0, 0, 0])
    #expect(server.wait() == 0, "\(server.text)")
    let calls = String(decoding: try File.bytes(trace), as: UTF8.self).split(separator: "\n")
    #expect(calls.filter { $0.contains("renameat2(") && $0.contains("EINVAL") }.count == 2, "image and marker")
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: place.path("state")).sorted() == [
        "tpm2-00.made.permall", "tpm2-00.permall",
      ])
    #expect(try place.run(["vnvram", "check", place.image]).status == 0)
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

  /// What is left of a TPM whose permanent state is gone.
  @Test(arguments: [
    ("tpm2-00.volatilestate", true), ("NVChip", true), ("tpm-00.volatilestate", false), ("tpm-00.savestate", false),
  ]) func besideWhatIsLeft(name: String, isTPM2: Bool) throws {
    let place = try Place.forFirstUse(isTPM2: isTPM2)
    try place.write([], "state/\(name)")
    let outcome = try place.runServer(Self.key(place), isTPM2: isTPM2)
    #expect(outcome.status == 15 && outcome.text.contains(name), "\(outcome.text)")
    #expect(!File.exists(place.image))
  }

  /// Both in one folder, each with its image and marker, as with swtpm.
  @Test func besideTheOtherKind() throws {
    let place = try Place.forFirstUse()
    #expect(try TestServer(place, TestServer.startsByItself + Self.key(place)).end() == 0)
    let tpm2 = try place.bytes()
    #expect(try TestServer(place, ["--flags", "startup-clear"] + Self.key(place), isTPM2: false).end() == 0)
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: place.path("state")).sorted() == [
        "tpm-00.made.permall", "tpm-00.permall", "tpm2-00.made.permall", "tpm2-00.permall",
      ])
    #expect(try place.bytes() == tpm2)
    let server = try TestServer(place)
    try server.connect(.data).run(TPMCommand.defineIndex)
    #expect(server.end() == 0)
  }

  /// A swtpm that runs in the folder would put its state into the image's place: none is made there, and none served.
  /// Its lock is free again once the image has its name.
  @Test func whileASwtpmRuns() throws {
    let place = try Place.forFirstUse()
    let state = place.path("state")
    #expect(try TestServer(place, TestServer.startsByItself + Self.key(place)).end() == 0)
    let (image, marker) = (try place.bytes(), try File.bytes(place.marker))
    for name in [place.image, place.marker] { unsafe unlink(name) }
    let swtpm = try DebianSwtpm(place, .directory, state)
    try #require(swtpm.isRunning, "\(swtpm.log)")
    unsafe unlink(place.image)
    let running = "a swtpm that runs uses it"
    let made = try place.runServer(Self.key(place))
    #expect(made.status == 9 && made.text.contains(running), "\(made.text)")
    #expect(!File.exists(place.image) && !File.exists(place.marker))
    try place.write(image)
    try File.write(marker, to: place.marker)
    let served = try place.runServer(Self.key(place))
    #expect(served.status == 9 && served.text.contains(running), "\(served.text)")
    #expect(try place.bytes() == image)
    swtpm.end()
    for isThere in [true, false] {
      if !isThere { for name in [place.image, place.marker] { unsafe unlink(name) } }
      let server = try TestServer(place, TestServer.startsByItself + Self.key(place))
      try #require(server.isRunning, "\(server.log)")
      let other = try DebianSwtpm(place, .directory, state, isTPM2: false)
      #expect(other.isRunning, "\(other.log)")
      other.end()
      #expect(server.end() == 0)
    }
  }

  /// On a disk with bad blocks, or a file server that is away: what can't be looked for may be there.
  @Test(
    .enabled(if: SystemCallTrace.isAvailable, "strace can't trace processes here"),
    arguments: ["tpm2-00.permall", "tpm2-00.made.permall", "tpm2-00.volatilestate"]
  ) func whereItCannotBeTold(name: String) throws {
    let place = try Place.forFirstUse()
    let path = place.path("state/\(name)")
    let failing = [
      "strace", "-f", "-qq", "-o", "/dev/null", "-P", path, "-e", "trace=%stat,%lstat,%fstat", "-e",
      "inject=%stat,%lstat,%fstat:error=EIO",
    ]
    let outcome = try place.runServer(Self.key(place), through: failing)
    #expect(outcome.status == 11 && outcome.text.contains("\(path): looking whether"), "\(outcome.text)")
    #expect(try FileManager.default.contentsOfDirectory(atPath: place.path("state")) == [])
    #expect(try TestServer(place, TestServer.startsByItself + Self.key(place)).end() == 0)
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
    try expectNothingMade(place, Self.key(place), status: 11, "made before and is gone", place.marker)
    try place.write(good)
    #expect(try TestServer(place, arguments).end() == 0)
    for path in [place.image, place.marker] { try FileManager.default.removeItem(atPath: path) }
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

  /// Whatever has the image's name is not replaced: something empty (as swtpm's own state after a power cut), zeros,
  /// damage, a link that leads nowhere; and where it is no image, no marker says that there was one.
  @Test func whatIsThereStays() throws {
    let place = try Place.forFirstUse()
    for bytes in [[], [UInt8](repeating: 0, count: 4096), (0..<65_536).map { _ in UInt8.random(in: 3...255) }] {
      try place.write(bytes)
      for flags in [[], TestServer.startsByItself] {
        let outcome = try place.runServer(flags + Self.key(place))
        #expect(outcome.status == 8 && outcome.text.contains("no new TPM takes its place"), "\(outcome.text)")
      }
      #expect(try Self.printed(place).status == 8)
      #expect(try place.bytes() == bytes && !File.exists(place.marker))
    }
    // With a marker the message has both.
    try place.write([], "state/tpm2-00.made.permall")
    let lost = try place.runServer(Self.key(place))
    #expect(lost.status == 8 && lost.text.contains("an image was made here"), "\(lost.text)")
    for path in [place.image, place.marker] { try FileManager.default.removeItem(atPath: path) }
    try FileManager.default.createSymbolicLink(atPath: place.image, withDestinationPath: place.path("elsewhere"))
    #expect(try place.runServer(Self.key(place)).status == 11)
    #expect(!FileManager.default.fileExists(atPath: place.path("elsewhere")))
  }

  private static func printed(_ place: Place, _ more: [String] = []) throws -> Place.Outcome {
    try place.run(
      ["vnvram-swtpm", "socket", "--print-states", "--tpm2", "--tpmstate", place.state ?? ""] + key(place) + more)
  }

  /// An image whose first header is damaged is an image, and what can be done with it another's to say.
  @Test(arguments: [0, 0xFF]) func aDamagedFirstHeader(byte: UInt8) throws {
    let place = try Place.forFirstUse()
    #expect(try TestServer(place, TestServer.startsByItself + Self.key(place)).end() == 0)
    var bytes = try place.bytes()
    bytes.replaceSubrange(0..<512, with: [UInt8](repeating: byte, count: 512))
    try place.write(bytes)
    let outcome = try place.runServer(Self.key(place))
    #expect(outcome.status == 6 && outcome.text.contains("copy A is damaged"), "\(outcome.text)")
  }

  // MARK: swtpm's state in the place

  /// It is neither served nor replaced, and the message says how it comes over; with a marker, what that means, too.
  @Test(arguments: [true, false], [false, true]) func swtpmsState(isTPM2: Bool, isMarked: Bool) throws {
    let place = try Place.forFirstUse(isTPM2: isTPM2)
    let folder = place.path("state")
    do { _ = try DebianSwtpm(place, .directory, folder, isTPM2: isTPM2) }
    let state = try place.bytes()
    if isMarked { try File.write([], to: place.marker) }
    for flags in [[], ["--fail-on-encrypted-drive=no"]] {
      let outcome = try place.runServer(flags + Self.key(place), isTPM2: isTPM2)
      #expect(outcome.status == 15, "\(outcome.text)")
      #expect(outcome.text.contains("`vnvram import-swtpm \(folder) \(place.image) --key NAME`"), "\(outcome.text)")
      #expect(outcome.text.contains("though an image was made here") == isMarked, "\(outcome.text)")
    }
    if isTPM2 { #expect(try Self.printed(place).status == 15) }
    #expect(try place.bytes() == state && File.exists(place.marker) == isMarked)
  }

  /// A host that goes back to Debian's swtpm by accident gets an error and no new TPM, and the image is as it was.
  @Test(arguments: [true, false], ["not-need-init,startup-clear", "not-need-init"])
  func debiansSwtpmOnAnImage(isTPM2: Bool, flags: String) throws {
    let place = try Place.forFirstUse(isTPM2: isTPM2)
    var server = try TestServer(place, ["--flags", "startup-clear"] + Self.key(place), isTPM2: isTPM2)
    #expect(server.end() == 0)
    let bytes = try place.bytes()
    do {
      let swtpm = try DebianSwtpm(place, .directory, place.path("state"), isTPM2: isTPM2, flags: flags)
      #expect(!swtpm.isRunning, "\(swtpm.log)")
    }
    #expect(try place.bytes() == bytes)
    let names = try FileManager.default.contentsOfDirectory(atPath: place.path("state"))
    #expect(Set(names).subtracting([".lock"]).count == 2, "\(names)")
    server = try TestServer(place, ["--flags", "startup-clear"] + Self.key(place), isTPM2: isTPM2)
    #expect(server.end() == 0)
  }

  /// swtpm_setup deletes an image that has no TPM yet: only where there is a key for another one.
  @Test func printedForSetup() throws {
    let place = try Place.forFirstUse()
    let format = try place.run(["vnvram", "format", place.image, "--key", place.key.name, "--profile", "tpm2"])
    try #require(format.status == 0, "\(format.text)")
    let printed = try Self.printed(place)
    #expect(printed.status == 0 && printed.text.contains("\"states\": []"), "\(printed.text)")
    let command = ["vnvram-swtpm", "socket", "--print-states", "--tpm2", "--tpmstate", place.state ?? ""]
    let without = try place.run(command)
    #expect(without.status == 3 && without.text.contains("would delete it"), "\(without.text)")
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
      #expect(names == ["tpm2-00.permall"] || names == ["tpm2-00.made.permall", "tpm2-00.permall"], "\(names)")
      #expect(try place.run(["vnvram", "check", place.image]).status == 0)
      let server = try TestServer(place, TestServer.startsByItself + Self.key(place))
      #expect(server.end() == 0, "\(server.log)")
      #expect(FileManager.default.fileExists(atPath: place.marker))
      for path in [place.image, place.marker] { try FileManager.default.removeItem(atPath: path) }
    }
    print("killed at its first start: \(made) of \(rounds) had made an image")
    #expect(made > 0, "it was always killed before")
  }
}
