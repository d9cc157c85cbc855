import Foundation
import TestSupport
import Testing

/// What `vnvram import-swtpm` and `export-swtpm` refuse, leave alone, and remove.
@Suite struct SwtpmSourceTests {
  /// A TPM 2.0 that Debian's swtpm made, with a secret in an index; its state in `there`.
  static func source(
    _ place: Place, _ storage: DebianSwtpm.Storage = .directory, key: String? = nil, _ name: String = "there"
  ) throws -> String {
    let swtpm = try DebianSwtpm(place, storage, place.path(name), key: key)
    try TestFailure.unless(swtpm.isRunning, swtpm.log)
    do {
      let data = try swtpm.connect(.data)
      try data.run(TPMCommand.defineIndex)
      try data.run(TPMCommand.write(0x5A))
    }
    swtpm.end()
    return place.path(name)
  }

  private static let secret = [UInt8](repeating: 0x5A, count: TPMCommand.indexSize)

  private func expectNothingMade(_ place: Place, sourceLocation: SourceLocation = #_sourceLocation) {
    let left = place.names.filter { $0.hasPrefix("new.img") }
    #expect(left.isEmpty, "\(left)", sourceLocation: sourceLocation)
  }

  private func expect(
    _ status: Int32, _ says: String, _ outcome: Place.Outcome, _ place: Place,
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    #expect(
      outcome.status == status && outcome.text.contains(says), "\(outcome.status): \(outcome.text)",
      sourceLocation: sourceLocation)
    expectNothingMade(place, sourceLocation: sourceLocation)
  }

  @Test func wrongKeys() throws {
    let place = try Place()
    let forms = SwtpmKeyForm.all
    let right = try #require(try forms[4].option(place))
    let there = try Self.source(place, key: right)
    let before = try File.bytes(there + "/tpm2-00.permall")
    expect(3, "--swtpm-key", try ChangingOverTests.importing(place, there), place)
    for (index, form) in forms.enumerated() where index > 0 && index != 4 {
      let wrong = try form.option(place, "wrong.key")
      let outcome = try ChangingOverTests.importing(place, there, key: wrong)
      // The other password is made into another key of the same size, or of the other.
      expect(4, "state key", outcome, place)
    }
    expect(2, "say one of file=", try ChangingOverTests.importing(place, there, key: "mode=aes-cbc"), place)
    expect(11, "nothing.key", try ChangingOverTests.importing(place, there, key: "file=nothing.key"), place)
    #expect(try File.bytes(there + "/tpm2-00.permall") == before)
    #expect(try ChangingOverTests.importing(place, there, key: right).status == 0)
  }

  /// Cut short anywhere and each bit of some bytes flipped: refused, or exactly what the file says. Under a key every
  /// flip is noticed; in clear only libtpms and the lengths can tell, as with swtpm.
  @Test(arguments: [true, false]) func damaged(isEncrypted: Bool) throws {
    let place = try Place()
    let key = isEncrypted ? try SwtpmKeyForm.all[8].option(place) : nil
    let there = try Self.source(place, key: key)
    let file = there + "/tpm2-00.permall"
    let whole = try File.bytes(file)
    for count in [0, 1, 9, 10, 15, 16, whole.count / 2, whole.count - 1] {
      try File.write(Array(whole.prefix(count)), to: file)
      let outcome = try ChangingOverTests.importing(place, there, key: key)
      expect(6, "permall", outcome, place)
    }
    var (refused, taken) = (0, 0)
    for offset in stride(from: 0, to: whole.count, by: whole.count / 20) {
      var changed = whole
      changed[offset] ^= 1 << UInt8(offset % 8)
      try File.write(changed, to: file)
      let outcome = try ChangingOverTests.importing(place, there, key: key)
      if outcome.status == 0 {
        taken += 1
        place.image = place.path("new.img")
        // Exactly what the file says.
        let given = try ChangingOverTests.exporting(place, place.path("back"), .directory, key: nil)
        try #require(given.status == 0, "\(given.text)")
        if !isEncrypted {
          let back = try File.bytes(place.path("back") + "/tpm2-00.permall")
          #expect(back.dropFirst(10) == changed.dropFirst(10), "byte \(offset)")
        }
        try FileManager.default.removeItem(atPath: place.path("back"))
        try FileManager.default.removeItem(atPath: place.image)
      } else {
        refused += 1
        #expect([3, 4, 6, 8].contains(outcome.status), "byte \(offset): \(outcome.status) \(outcome.text)")
        expectNothingMade(place)
      }
    }
    print(
      "states of swtpm with a bit flipped, \(isEncrypted ? "encrypted" : "in clear"): \(refused) refused, \(taken) taken"
    )
    // What is under a key is noticed but for the lower version number and reserved bits of the header.
    #expect(isEncrypted ? taken <= 2 : refused > 0)
  }

  @Test func placesThatHoldNone() throws {
    let place = try Place()
    let folder = place.path("uuid/tpm2")
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    let permall = folder + "/tpm2-00.permall"
    let state = try File.bytes(try Self.source(place) + "/tpm2-00.permall")
    let importing = { (path: String, more: String) in
      more.isEmpty
        ? try ChangingOverTests.importing(place, path) : try ChangingOverTests.importing(place, path, key: nil, more)
    }
    expect(8, "holds no state", try importing(folder, ""), place)
    try File.write(state, to: permall)
    expect(8, "there is one in \(place.path("uuid"))/tpm2", try importing(place.path("uuid"), ""), place)
    expect(8, "no tpm-00.permall; there is one of a TPM 2.0", try importing(folder, "--tpm1.2"), place)
    expect(8, "name the directory", try importing(permall, ""), place)
    expect(11, "No such file", try importing(place.path("none"), ""), place)
    expect(15, "is an image already", try importing(place.image, ""), place)
    try place.write(Array("something else".utf8), "other")
    expect(8, "backend file://", try importing(place.path("other"), ""), place)
    try File.write(state, to: folder + "/tpm-00.permall")
    expect(15, "say --tpm2 or --tpm1.2", try importing(folder, ""), place)
    // A TPM 2.0's state under the other's name.
    expect(8, "holds the state of a TPM 2.0", try importing(folder, "--tpm1.2"), place)
    unsafe unlink(folder + "/tpm-00.permall")

    try FileManager.default.moveItem(atPath: permall, toPath: place.path("elsewhere"))
    #expect(unsafe symlink(place.path("elsewhere"), permall) == 0)
    expect(8, "symbolic link", try importing(folder, ""), place)
    unsafe unlink(permall)
    #expect(unsafe mkfifo(permall, 0o600) == 0)
    expect(8, "no regular file", try importing(folder, ""), place)
    unsafe unlink(permall)
    try File.write([UInt8](repeating: 2, count: 300_000), to: permall)
    expect(10, "at most", try importing(folder, ""), place)
    #expect(unsafe truncate(permall, 1 << 40) == 0)
    expect(10, "at most", try importing(folder, ""), place)
    unsafe unlink(permall)
    #expect(unsafe link(place.path("elsewhere"), permall) == 0)
    expect(15, "hard link", try importing(folder, "--remove-source"), place)
    #expect(try File.bytes(permall) == state)
  }

  /// What libtpms doesn't load, though the container is whole.
  @Test func whatLibtpmsRefuses() throws {
    let place = try Place()
    let folder = try Self.source(place)
    var state = try File.bytes(folder + "/tpm2-00.permall")
    state.replaceSubrange(200..<260, with: [UInt8](repeating: 0xFF, count: 60))
    try File.write(state, to: folder + "/tpm2-00.permall")
    expect(6, "libtpms", try ChangingOverTests.importing(place, folder), place)
  }

  /// vnvram by itself, and with a vnvram-swtpm beside it that crashes, hangs up early or talks nonsense: nothing is
  /// made.
  @Test func withoutALibtpmsThatSaysYes() throws {
    let place = try Place()
    let there = try Self.source(place)
    #expect(try place.run(["cp", Program.directory + "/vnvram", "."]).status == 0)
    let importing = {
      try place.run(
        [place.path("vnvram"), "import-swtpm", there, place.path("new.img"), "--key", place.key.name])
    }
    expect(11, "install it beside this program", try importing(), place)
    for (script, status, says) in [
      ("cat >/dev/null; kill -SEGV $$", Int32(6), "signal 11"), ("kill -ABRT $$", 6, "signal 6"),
      ("cat >/dev/null", 1, "can't try the state"),
      ("cat >/dev/null; echo nv x persistent 0", 1, "can't try the state"),
      ("echo no >&2; exit 6", 6, "libtpms doesn't load this state"),
      ("cat >/dev/null; exit 77", 1, "can't try the state"),
    ] {
      try place.write(Array("#!/bin/sh\n\(script)\n".utf8), "script")
      // By another process: a child that another test starts meanwhile could have it open for writing (ETXTBSY).
      #expect(try place.run(["bash", "-c", "cp script vnvram-swtpm && chmod 755 vnvram-swtpm"]).status == 0)
      expect(status, says, try importing(), place)
    }
    // What it is asked for by `vnvram` nobody else needs; it doesn't take anything else either.
    for (arguments, input) in [("", ""), ("tpm3", ""), ("tpm2", "x"), ("tpm2", "\\004\\0\\0\\0\\001x")] {
      let outcome = try place.run(
        ["bash", "-c", "printf '\(input)' | \(Program.directory)/vnvram-swtpm load-states \(arguments)"])
      #expect(outcome.status == 2, "\(arguments) \(input): \(outcome.text)")
    }
  }

  @Test(arguments: DebianSwtpm.Storage.allCases) func aSwtpmThatRuns(storage: DebianSwtpm.Storage) throws {
    let place = try Place()
    let swtpm = try DebianSwtpm(place, storage, place.path("there"))
    expect(9, "a swtpm that runs uses it", try ChangingOverTests.importing(place, place.path("there")), place)
    if storage == .directory {
      let image = try Place()
      let given = try image.run(["vnvram", "export-swtpm", image.image, place.path("there"), "--unencrypted"])
      #expect(given.status == 14 || given.status == 9, "\(given.text)")
    }
    swtpm.end()
    #expect(try ChangingOverTests.importing(place, place.path("there")).status == 0)
  }

  @Test func imagesThatAreThere() throws {
    let place = try Place()
    let there = try Self.source(place)
    let run = { (more: [String]) in try place.run(["vnvram", "import-swtpm", there, place.image] + more) }
    #expect(try run(["--key", place.key.name]).status == 15)
    let filled = try run([])
    #expect(filled.status == 0 && filled.text.contains("filled, with permall ("), "\(filled.text)")
    let again = try run([])
    #expect(again.status == 15 && again.text.contains("--force"), "\(again.text)")
    #expect(try run(["--force"]).status == 0)
    #expect(try run(["--force", "--key", "x"]).status == 2)
    let server = try TestServer(place)
    #expect(try server.connect(.data).index() == Self.secret)
    #expect(try run(["--force"]).status == 9)
    #expect(server.end() == 0)
    // Refused by libtpms: the image is as it was.
    let before = try place.bytes()
    try File.write(Array(File.bytes(there + "/tpm2-00.permall").dropLast(9)), to: there + "/tpm2-00.permall")
    #expect(try run(["--force"]).status == 6)
    #expect(try place.bytes() == before)

    let other = try Place(["--profile", "uefi"])
    let elsewhere = try Self.source(other)
    let wrong = try other.run(["vnvram", "import-swtpm", elsewhere, other.image])
    #expect(wrong.status == 14 && wrong.text.contains("--profile tpm2"), "\(wrong.text)")
    #expect(try other.run(["vnvram", "import-swtpm", elsewhere, other.path("new.img")]).status == 2)
    #expect(
      try other.run(["vnvram", "import-swtpm", elsewhere, other.path("new.img"), "--key", "nothing"]).status == 3)
    #expect(other.names.filter { $0.hasPrefix("new") } == [])
  }

  @Test func whatExportingRefuses() throws {
    let place = try Place()
    let export = { (more: [String]) in
      try place.run(["vnvram", "export-swtpm", place.image, place.path("back")] + more)
    }
    #expect(try export(["--unencrypted"]).status == 14)
    #expect(try place.run(["vnvram", "import-swtpm", try Self.source(place), place.image]).status == 0)
    let word = try export([])
    #expect(word.status == 2 && word.text.contains("--unencrypted"), "\(word.text)")
    #expect(try export(["--unencrypted", "--swtpm-key", "fd=0"]).status == 2)
    #expect(!File.exists(place.path("back")))
    #expect(try export(["--unencrypted"]).status == 0)
    var status = stat()
    for (name, mode) in [("back", 0o700), ("back/tpm2-00.permall", 0o600)] {
      #expect(unsafe stat(place.path(name), &status) == 0 && status.st_mode & 0o7777 == mode, "\(name)")
    }
    #expect(try FileManager.default.contentsOfDirectory(atPath: place.path("back")) == ["tpm2-00.permall"])
    let before = try File.bytes(place.path("back/tpm2-00.permall"))
    let taken = try export(["--unencrypted"])
    #expect(taken.status == 15 && taken.text.contains("is there already"), "\(taken.text)")
    #expect(try export(["--unencrypted", "--single-file"]).status == 15)
    #expect(try File.bytes(place.path("back/tpm2-00.permall")) == before)
    let audit = try String(contentsOfFile: place.path("audit.jsonl"), encoding: .utf8)
    #expect(audit.contains("\"event\":\"exported\"") && audit.contains("not encrypted"))
    #expect(audit.contains("\"event\":\"imported\""))
  }

  /// A link to swtpm's state is not its place: the image would take the link's, and the state would stay, or be lost.
  @Test(arguments: [[], ["--remove-source"]]) func linksToTheState(more: [String]) throws {
    let place = try Place()
    let there = try Self.source(place)
    let file = there + "/tpm2-00.permall"
    let state = try File.bytes(file)
    func refused(_ link: String, sourceLocation: SourceLocation = #_sourceLocation) throws {
      let outcome = try place.run(["vnvram", "import-swtpm", there, link, "--key", place.key.name] + more)
      #expect(
        outcome.status == 15 && outcome.text.contains("name the file itself"), "\(outcome.text)",
        sourceLocation: sourceLocation)
      #expect(try File.bytes(file) == state && File.bytes(link) == state, sourceLocation: sourceLocation)
      unsafe unlink(link)
    }
    let link = place.path("link")
    #expect(unsafe symlink(file, link) == 0)
    try refused(link)
    // Hard ones; the second is the one that an import makes itself for a moment.
    for link in [link, file + ".swtpm"] {
      #expect(unsafe Glibc.link(file, link) == 0)
      try refused(link)
    }
    // The folder may be reached by one.
    #expect(unsafe symlink(there, link) == 0)
    let image = link + "/tpm2-00.permall"
    let outcome = try place.run(["vnvram", "import-swtpm", there, image, "--key", place.key.name] + more)
    #expect(outcome.status == 0, "\(outcome.text)")
    #expect(try File.bytes(file) != state && File.exists(file + ".swtpm") == more.isEmpty)
  }

  /// As root with libvirt's user: the image is that user's, and so is what comes back.
  @Test(.enabled(if: geteuid() == 0)) func owners() throws {
    let place = try Place()
    let there = try Self.source(place)
    for name in ["", "/tpm2-00.permall"] { #expect(unsafe chown(there + name, 65534, 65534) == 0) }
    let image = there + "/tpm2-00.permall"
    let made = try place.run(["vnvram", "import-swtpm", there, image, "--key", place.key.name, "--remove-source"])
    #expect(made.status == 0, "\(made.text)")
    #expect(!File.exists(image + ".swtpm"))
    var status = stat()
    let isTheirs =
      unsafe stat(there + "/tpm2-00.made.permall", &status) == 0 && status.st_uid == 65534
      && status.st_mode & 0o777 == 0o600
    #expect(isTheirs)
    #expect(try place.run(["vnvram", "export-swtpm", image, there, "--unencrypted"]).status == 0)
    for name in ["there/tpm2-00.permall", "there/tpm2-00.permall.vnvram"] {
      #expect(
        unsafe stat(place.path(name), &status) == 0 && status.st_uid == 65534 && status.st_gid == 65534, "\(name)")
      #expect(status.st_mode & 0o777 == 0o600, "\(name)")
    }
  }

  /// On a real ext4: nothing of the secret is left in its file once the source was removed.
  @Test(.enabled(if: LoopFileSystem.isPermitted)) func removed() throws {
    let place = try Place()
    let disk = try LoopFileSystem(in: place.folder, megabytes: 8)
    // Written there once, whole: what swtpm itself left behind in earlier files nobody can reach.
    let there = disk.path + "/there"
    try FileManager.default.createDirectory(atPath: there, withIntermediateDirectories: true)
    try File.write(try File.bytes(try Self.source(place) + "/tpm2-00.permall"), to: there + "/tpm2-00.permall")
    sync()
    let isOnDisk = { Data(try File.bytes(place.path("disk"))).range(of: Data(Self.secret)) != nil }
    #expect(try isOnDisk())
    let outcome = try ChangingOverTests.importing(place, there, key: nil, "--remove-source")
    #expect(outcome.status == 0 && outcome.text.contains("overwritten and removed"), "\(outcome.text)")
    #expect(try FileManager.default.contentsOfDirectory(atPath: there) == [])
    try disk.unmount()
    #expect(try !isOnDisk())
    place.image = place.path("new.img")
    let server = try TestServer(place)
    #expect(try server.connect(.data).index() == Self.secret)
    #expect(server.end() == 0)
  }

  /// SIGKILL at any moment of an import in place: what has the name is swtpm's state as it was, or a whole image.
  @Test(arguments: [false, true]) func killedInPlace(removes: Bool) throws {
    let place = try Place()
    let there = try Self.source(place)
    let file = there + "/tpm2-00.permall"
    let state = try File.bytes(file)
    let command =
      ["vnvram", "import-swtpm", there, file, "--key", place.key.name] + (removes ? ["--remove-source"] : [])
    var (without, with) = (0, 0)
    let start = DispatchTime.now().uptimeNanoseconds
    #expect(try place.run(command).status == 0)
    var whole = Double(DispatchTime.now().uptimeNanoseconds - start) / 1000
    for round in 0..<60 where round < 16 || without == 0 || with == 0 {
      for name in ["tpm2-00.permall.swtpm", "tpm2-00.made.permall"] { unsafe unlink("\(there)/\(name)") }
      unsafe unlink(file)
      try File.write(state, to: file)
      let child = try place.start(command)
      usleep(UInt32(Double.random(in: 0...whole * 1.5)))
      child.kill()
      _ = child.wait()
      if try File.bytes(file) == state {
        without += 1
        whole = min(whole * 1.25, 5_000_000)
        // And the next one goes through, once what the killed one had started has ended.
        var again = try place.run(command)
        for _ in 0..<200 where again.status == 9 {
          usleep(20_000)
          again = try place.run(command)
        }
        #expect(again.status == 0, "\(again.text)")
      } else {
        with += 1
        whole *= 0.8
      }
      let given = try place.run(["vnvram", "export-swtpm", file, place.path("back"), "--unencrypted"])
      try #require(given.status == 0, "\(given.text)")
      #expect(try File.bytes(place.path("back/tpm2-00.permall")) == state)
      try FileManager.default.removeItem(atPath: place.path("back"))
    }
    #expect(without > 0 && with > 0, "\(without) without an image, \(with) with one")
    print("kills under import-swtpm in place: \(without) without an image, \(with) with a whole one")
  }

  /// SIGKILL at any moment: there is no image or a whole one; the source is as it was unless there is.
  @Test func killed() throws {
    let place = try Place()
    let there = try Self.source(place)
    let file = there + "/tpm2-00.permall"
    let state = try File.bytes(file)
    let image = place.path("new.img")
    let command = ["vnvram", "import-swtpm", there, image, "--key", place.key.name, "--remove-source"]
    let start = DispatchTime.now().uptimeNanoseconds
    #expect(try place.run(command).status == 0)
    // How long one takes depends on what else runs: as many are to be killed before the image is there as after.
    var whole = Double(DispatchTime.now().uptimeNanoseconds - start) / 1000
    var (without, with) = (0, 0)
    // Twenty, and more until there was each: the first that comes too late, or too early, makes the next another one.
    for round in 0..<60 where round < 20 || without == 0 || with == 0 {
      try? FileManager.default.removeItem(atPath: image)
      try File.write(state, to: file)
      let child = try place.start(command)
      usleep(UInt32(Double.random(in: 0...whole * 1.5)))
      child.kill()
      _ = child.wait()
      if File.exists(image) {
        with += 1
        whole *= 0.8
        let given = try place.run(["vnvram", "export-swtpm", image, place.path("back"), "--unencrypted"])
        try #require(given.status == 0, "\(given.text)")
        #expect(try File.bytes(place.path("back/tpm2-00.permall")) == state)
        try FileManager.default.removeItem(atPath: place.path("back"))
      } else {
        without += 1
        whole = min(whole * 1.25, 5_000_000)
        #expect(try File.bytes(file) == state)
      }
      let left = place.names.filter { $0.hasPrefix("new.img") && $0 != "new.img" }
      #expect(left.isEmpty, "\(left)")
    }
    #expect(without > 0 && with > 0, "\(without) without an image, \(with) with one")
    print("kills under import-swtpm: \(without) without an image, \(with) with a whole one")
  }
}
