import Foundation
import TestSupport
import Testing

/// TPMs that change over from Debian's swtpm to vnvram-swtpm and back, by `vnvram import-swtpm` and `export-swtpm`.
@Suite struct ChangingOverTests {
  static func importing(_ place: Place, _ source: String, key: String? = nil, _ more: String...) throws -> Place.Outcome
  {
    try place.run(
      ["vnvram", "import-swtpm", source, place.path("new.img"), "--key", place.key.name] + more
        + (key.map { ["--swtpm-key", $0] } ?? []))
  }

  static func exporting(_ place: Place, _ target: String, _ storage: DebianSwtpm.Storage, key: String?) throws
    -> Place.Outcome
  {
    try place.run(
      ["vnvram", "export-swtpm", place.image, target] + (storage == .singleFile ? ["--single-file"] : [])
        + (key.map { ["--swtpm-key", $0] } ?? ["--unencrypted"]))
  }

  @Test(arguments: SwtpmKeyForm.all, DebianSwtpm.Storage.allCases)
  func everyKeyThereAndBack(form: SwtpmKeyForm, storage: DebianSwtpm.Storage) throws {
    let place = try Place()
    let key = try form.option(place)
    let (there, back) = (place.path("there"), place.path("back"))
    var swtpm = try DebianSwtpm(place, storage, there, key: key)
    try #require(swtpm.isRunning, "\(swtpm.log)")
    do {
      let data = try swtpm.connect(.data)
      try data.run(TPMCommand.defineIndex)
      try data.run(TPMCommand.write(0x5A))
    }
    swtpm.end()

    let brought = try Self.importing(place, there, key: key)
    try #require(brought.status == 0, "\(brought.text)")
    #expect(brought.text.contains("libtpms loads it: 1 NV index and 0 persistent objects"), "\(brought.text)")
    place.image = place.path("new.img")
    let server = try TestServer(place)
    try #require(server.isRunning, "\(server.log)")
    do {
      let data = try server.connect(.data)
      #expect(try data.index() == [UInt8](repeating: 0x5A, count: TPMCommand.indexSize))
      try data.run(TPMCommand.write(0xA5))
    }
    #expect(server.end() == 0)

    let given = try Self.exporting(place, back, storage, key: key)
    try #require(given.status == 0, "\(given.text)")
    #expect(given.text.contains("is not encrypted") == (key == nil))
    swtpm = try DebianSwtpm(place, storage, back, key: key)
    try #require(swtpm.isRunning, "\(swtpm.log)")
    let data = try swtpm.connect(.data)
    #expect(try data.index() == [UInt8](repeating: 0xA5, count: TPMCommand.indexSize))
    // swtpm makes room where it has to.
    try data.run(TPMCommand.defineCounter)
    try data.run(TPMCommand.increment)
    #expect(try data.counter() == 1)
  }

  /// With everything that a guest sees: a persistent key that still unseals, an index, and a measurement in the
  /// volatile state of a TPM that was suspended.
  @Test func aSuspendedTPMWithAKey() throws {
    let place = try Place()
    let secret = "the secret of NV"
    try place.write(Array(secret.utf8), "secret")
    var swtpm = try DebianSwtpm(place, .directory, place.path("there"))
    for command in [
      ["tpm2_nvdefine", "0x1500020", "-C", "o", "-s", "16", "-a", "ownerread|ownerwrite"],
      ["tpm2_nvwrite", "0x1500020", "-C", "o", "-i", "secret"],
      ["tpm2_createprimary", "-C", "o", "-G", "ecc", "-c", "primary.ctx"],
      ["tpm2_evictcontrol", "-C", "o", "-c", "primary.ctx", "0x81000001"], ["tpm2_flushcontext", "-t"],
      ["tpm2_create", "-C", "0x81000001", "-i", "secret", "-u", "sealed.pub", "-r", "sealed.priv"],
      ["tpm2_flushcontext", "-t"], ["tpm2_pcrextend", "16:sha256=" + String(repeating: "5a", count: 32)],
    ] { try run(swtpm, command) }
    let identity = try self.identity { try swtpm.tpm2($0, $1, $2) }
    // QEMU has it stored when the machine is saved.
    #expect(try swtpm.control("-v").status == 0)
    swtpm.end()

    let brought = try Self.importing(place, place.path("there"))
    try #require(brought.status == 0, "\(brought.text)")
    #expect(brought.text.contains("and volatilestate ("), "\(brought.text)")
    #expect(brought.text.contains("1 NV index and 1 persistent object\n"), "\(brought.text)")
    place.image = place.path("new.img")
    let server = try TestServer(place, ["--flags", "not-need-init"])
    #expect(try self.identity { try server.tpm2($0, $1, $2) } == identity)
    #expect(try server.tpm2("tpm2_nvread", "0x1500020", "-C", "o", "-s", "16").text == secret)
    #expect(try server.control("-v").status == 0)
    #expect(server.end() == 0)

    let given = try Self.exporting(place, place.path("back"), .directory, key: nil)
    try #require(given.status == 0, "\(given.text)")
    swtpm = try DebianSwtpm(place, .directory, place.path("back"), flags: "not-need-init")
    #expect(try self.identity { try swtpm.tpm2($0, $1, $2) } == identity)
    #expect(try swtpm.tpm2("tpm2_nvread", "0x1500020", "-C", "o", "-s", "16").text == secret)
    try run(swtpm, ["tpm2_load", "-C", "0x81000001", "-u", "sealed.pub", "-r", "sealed.priv", "-c", "sealed.ctx"])
    #expect(try swtpm.tpm2("tpm2_unseal", "-c", "sealed.ctx").text == secret)
  }

  private func run(_ swtpm: DebianSwtpm, _ command: [String]) throws {
    let outcome = try swtpm.run(command)
    try TestFailure.unless(outcome.status == 0, "\(command): \(outcome.text)")
  }

  private func identity(_ tpm2: (String, String, String) throws -> Place.Outcome) throws -> String {
    let key = try tpm2("tpm2_readpublic", "-c", "0x81000001")
    let measured = try tpm2("tpm2_pcrread", "sha256:16", "--pcrs_format=values")
    try TestFailure.unless(key.status == 0 && measured.status == 0, key.text + measured.text)
    return key.text + measured.text
  }

  /// A TPM 1.2 has a third state, and its single file doesn't say what it is of. What wasn't run meanwhile comes back
  /// byte for byte.
  @Test(arguments: DebianSwtpm.Storage.allCases) func tpm12(storage: DebianSwtpm.Storage) throws {
    let place = try Place()
    let (there, back) = (place.path("there"), place.path("back"))
    var swtpm = try DebianSwtpm(place, storage, there, isTPM2: false)
    // TPM_SaveState.
    #expect(try swtpm.connect(.data).ask([0, 0xC1, 0, 0, 0, 10, 0, 0, 0, 0x98]).suffix(4) == [0, 0, 0, 0])
    #expect(try swtpm.control("-v").status == 0)
    swtpm.end()
    let brought = try Self.importing(place, there)
    try #require(brought.status == 0, "\(brought.text)")
    #expect(brought.text.contains("savestate (") && brought.text.contains("of a TPM 1.2"), "\(brought.text)")
    place.image = place.path("new.img")
    let given = try Self.exporting(place, back, storage, key: nil)
    try #require(given.status == 0, "\(given.text)")
    if storage == .directory {
      for name in ["permall", "volatilestate", "savestate"] {
        #expect(try File.bytes("\(there)/tpm-00.\(name)") == File.bytes("\(back)/tpm-00.\(name)"), "\(name)")
      }
    }
    let server = try TestServer(place, ["--flags", "not-need-init"], isTPM2: false)
    // TPM_GetCapability of its version.
    let version: [UInt8] = [0, 0xC1, 0, 0, 0, 18, 0, 0, 0, 0x65, 0, 0, 0, 6, 0, 0, 0, 0]
    let here = try server.connect(.data).ask(version)
    #expect(here.prefix(10) == [0, 0xC4, 0, 0, 0, 18, 0, 0, 0, 0])
    #expect(server.end() == 0)
    swtpm = try DebianSwtpm(place, storage, back, isTPM2: false, flags: "not-need-init")
    #expect(try swtpm.connect(.data).ask(version) == here)
  }

  private func serving(_ place: Place, _ folder: String, _ more: [String], _ body: (Child) throws -> Void) throws {
    let server = try place.start(
      ["vnvram-swtpm", "socket", "--tpm2", "--tpmstate", "dir=\(folder)"] + TestServer.unixSockets(place.folder)
        + TestServer.startsByItself + more)
    defer {
      server.signal(SIGTERM)
      _ = server.wait()
    }
    while server.isRunning, (try? Socket(path: place.path("tpm.ctrl")))?.ask([0, 0, 0, 1]).isEmpty ?? true {
      usleep(2000)
    }
    try body(server)
  }

  /// As with libvirt: `--tpmstate dir=` makes no new TPM in the place of swtpm's, takes the image that was brought over
  /// into that very place, and opens it with the password that was swtpm's, too, once it has a slot for that. And back.
  @Test func inPlace() throws {
    let place = try Place()
    let there = place.path("there")
    let form = SwtpmKeyForm.all.first { $0.isPassword }
    let password = try #require(try form?.option(place))
    do {
      let swtpm = try DebianSwtpm(place, .directory, there, key: password)
      let data = try swtpm.connect(.data)
      try data.run(TPMCommand.defineIndex)
      try data.run(TPMCommand.write(0x5A))
      #expect(try swtpm.control("-v").status == 0)
    }
    let (image, marker) = (there + "/tpm2-00.permall", there + "/tpm2-00.made.permall")
    let (state, volatile) = (try File.bytes(image), try File.bytes(there + "/tpm2-00.volatilestate"))
    try serving(place, there, ["--keyring-key", place.key.name]) {
      #expect($0.wait() == 15 && $0.text.contains("vnvram import-swtpm \(there) \(image) "), "\($0.text)")
    }
    let brought = try place.run(
      ["vnvram", "import-swtpm", there, image, "--key", place.key.name, "--swtpm-key", password])
    try #require(brought.status == 0, "\(brought.text)")
    // What swtpm had is beside it, as it was, and under no name of a state's.
    #expect(try File.bytes(image + ".swtpm") == state)
    #expect(try File.bytes(there + "/tpm2-00.volatilestate.swtpm") == volatile)
    #expect(brought.text.contains("\(image).swtpm: what swtpm had, kept"), "\(brought.text)")
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: there).filter { !$0.hasSuffix(".swtpm") }.sorted() == [
        ".lock", "tpm2-00.made.permall", "tpm2-00.permall",
      ])
    // Should the image be lost, no new TPM takes its place: the marker says so, before a server ever ran here.
    try #require(File.exists(marker))
    try FileManager.default.moveItem(atPath: image, toPath: image + ".away")
    try serving(place, there, ["--keyring-key", place.key.name]) {
      #expect($0.wait() == 11 && $0.text.contains("made before and is gone"), "\($0.text)")
    }
    #expect(!File.exists(image))
    try FileManager.default.moveItem(atPath: image + ".away", toPath: image)
    let added = try place.run(
      ["bash", "-c", "vnvram slot add \(image) --passphrase-fd 3 --name swtpm 3< swtpm.key"])
    try #require(added.status == 0, "\(added.text)")
    for more in [[], ["--key", password]] {
      try serving(place, there, more) {
        try #require($0.isRunning, "\($0.text)")
        #expect(try Socket(path: place.path("tpm")).index() == [UInt8](repeating: 0x5A, count: TPMCommand.indexSize))
      }
    }
    let again = try place.run(["vnvram", "import-swtpm", there, image, "--key", place.key.name])
    #expect(again.status == 15, "\(again.text)")

    let ours = try File.bytes(image)
    let given = try place.run(["vnvram", "export-swtpm", image, there, "--swtpm-key", password])
    try #require(given.status == 0 && given.text.contains("\(image).vnvram: the image, kept"), "\(given.text)")
    #expect(try File.bytes(image + ".vnvram") == ours)
    #expect(!File.exists(marker))
    do {
      let swtpm = try DebianSwtpm(place, .directory, there, key: password)
      try #require(swtpm.isRunning, "\(swtpm.log)")
      #expect(try swtpm.connect(.data).index() == [UInt8](repeating: 0x5A, count: TPMCommand.indexSize))
    }
    // Nothing that was kept is lost by doing it again.
    let once = try place.run(
      ["vnvram", "import-swtpm", there, image, "--key", place.key.name, "--swtpm-key", password])
    #expect(once.status == 15 && once.text.contains("\(image).swtpm: is there already"), "\(once.text)")
    #expect(try File.bytes(image + ".swtpm") == state && !File.exists(marker))
    try serving(place, there, []) { #expect($0.wait() == 15, "\($0.text)") }
  }

  /// The single file's own place, too, with what was there overwritten; and back into it.
  @Test func inTheSingleFilesPlace() throws {
    let place = try Place()
    let there = try SwtpmSourceTests.source(place, .singleFile)
    let unasked = try place.run(["vnvram", "import-swtpm", there, there])
    #expect(unasked.status == 2 && unasked.text.contains("--key NAME"), "\(unasked.text)")
    let brought = try place.run(
      ["vnvram", "import-swtpm", there, there, "--key", place.key.name, "--remove-source"])
    try #require(brought.status == 0, "\(brought.text)")
    #expect(place.names.filter { $0.hasPrefix("there") } == ["there"])
    place.image = there
    let server = try TestServer(place)
    #expect(try server.connect(.data).index() == [UInt8](repeating: 0x5A, count: TPMCommand.indexSize))
    #expect(server.end() == 0)
    let given = try Self.exporting(place, there, .singleFile, key: nil)
    try #require(given.status == 0, "\(given.text)")
    #expect(place.names.filter { $0.hasPrefix("there") } == ["there", "there.vnvram"])
    let swtpm = try DebianSwtpm(place, .singleFile, there)
    #expect(try swtpm.connect(.data).index() == [UInt8](repeating: 0x5A, count: TPMCommand.indexSize))
  }
}
