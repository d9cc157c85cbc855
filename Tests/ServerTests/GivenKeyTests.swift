import Foundation
import TestSupport
import Testing

/// `--key`, with which a manager of virtual machines hands a key over, and `--keyring-key`, which names one.
@Suite struct GivenKeyTests {
  private static let state = TestServer.startsByItself

  /// Forms of --key, and how `vnvram` opens what was made with them.
  struct Form: CustomTestStringConvertible, Sendable {
    let title: String
    let option: String
    let file: [UInt8]
    /// For `--passphrase-fd`; nil: the file's 32 bytes are the kernel key "swtpm".
    var passphrase: String?
    var testDescription: String { title }
  }

  private static let bytes: [UInt8] = (0..<32).map { 7 &+ 11 &* $0 }
  private static func hex(_ bytes: some Sequence<UInt8>) -> String {
    bytes.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
  }

  static let forms: [Form] = [
    Form(title: "32 raw bytes", option: "file=KEY,format=binary,mode=aes-256-cbc", file: bytes),
    Form(title: "64 digits", option: "file=KEY,mode=aes-256-cbc", file: Array("0x\(hex(bytes).uppercased())\n".utf8)),
    Form(
      title: "16 raw bytes", option: "file=KEY,format=binary", file: Array(bytes.prefix(16)),
      passphrase: hex(bytes.prefix(16))),
    Form(
      title: "32 digits", option: "file=KEY,format=hex,mode=aes-cbc", file: Array(hex(bytes.prefix(16)).utf8),
      passphrase: hex(bytes.prefix(16))),
    Form(
      title: "a password", option: "pwdfile=KEY,mode=aes-256-cbc", file: Array("open, sesame".utf8),
      passphrase: "open, sesame"),
    Form(
      title: "a password and a newline, another kdf", option: "pwdfile=KEY,kdf=sha512",
      file: Array("open, sesame\n".utf8),
      passphrase: "open, sesame"),
  ]

  @Test(arguments: forms) func madeAndOpened(form: Form) throws {
    let place = try Place.forFirstUse()
    try place.write(form.file, "key")
    let key = ["--key", form.option.replacingOccurrences(of: "KEY", with: place.path("key"))]
    var server = try TestServer(place, Self.state + key)
    try server.connect(.data).run(TPMCommand.defineIndex)
    try server.connect(.data).run(TPMCommand.write(7))
    // GET_CONFIG: a state key.
    #expect(try server.connect(.control).ask([0, 0, 0, 0xF]) == [0, 0, 0, 0, 0, 0, 0, 1])
    #expect(server.end() == 0)
    let list = try place.run(["vnvram", "slot", "list", place.image]).text
    #expect(list.contains(form.passphrase == nil ? "key   swtpm" : "passphrase  swtpm"), "\(list)")
    if let passphrase = form.passphrase {
      let opened = try place.run(
        ["bash", "-c", "vnvram ls \(place.image) --passphrase-fd 5 5<<<'\(passphrase)'"])
      #expect(opened.status == 0, "\(opened.text)")
    } else {
      try place.write(Self.bytes, "raw")
      let opened = try place.run([
        "keyctl", "session", "-", "bash", "-c",
        "vnvram key load swtpm --file raw --keyring session && vnvram ls \(place.image)",
      ])
      #expect(opened.status == 0, "\(opened.text)")
    }
    server = try TestServer(place, Self.state + key)
    #expect(try server.connect(.data).index() == [UInt8](repeating: 7, count: TPMCommand.indexSize))
    #expect(server.end() == 0)
    // Without it there is none; and nothing is added silently.
    let without = try place.runServer()
    #expect(
      without.status == 3
        && without.text.contains(form.passphrase == nil ? "key \"swtpm\" is missing" : "--key pwdfile="),
      "\(without.text)")
    try place.write(Array("wrong".utf8), "other")
    let wrong = try place.runServer(["--key", "pwdfile=\(place.path("other"))"])
    #expect(wrong.status == 4 && wrong.text.contains(place.image), "\(wrong.text)")
    #expect(try place.run(["vnvram", "slot", "list", place.image]).text == list)
  }

  /// With --key the keyrings are not looked at: a wrong one is a wrong one.
  @Test func inPlaceOfKernelKeys() throws {
    let place = try Place()
    let before = try place.bytes()
    try place.write(Self.bytes, "key")
    let key = ["--key", "file=\(place.path("key")),format=binary,mode=aes-256-cbc"]
    for flags in [[], Self.state, ["--fail-on-encrypted-drive=no"]] {
      let outcome = try place.runServer(flags + key)
      #expect(outcome.status == 4, "\(outcome.text)")
    }
    #expect(try place.bytes() == before)
    let records = String(decoding: try place.bytes("audit.jsonl"), as: UTF8.self)
    #expect(!records.split(separator: "\n").dropFirst(3).contains { $0.contains("\"found\"") }, "\(records)")
    // And no key that goes locks it.
    #expect(try place.run(["bash", "-c", "vnvram slot add \(place.image) --passphrase-fd 5 5<<<word"]).status == 0)
    try place.write(Array("word".utf8), "word")
    let server = try TestServer(place, Self.state + ["--key", "pwdfile=\(place.path("word"))"])
    place.key.revoke()
    usleep(1_300_000)
    try server.connect(.data).run(TPMCommand.defineIndex)
    #expect(server.end() == 0)
  }

  /// From a pipe, as libvirt does it, and removed, as swtpm does it.
  @Test func readOnce() throws {
    let place = try Place.forFirstUse()
    let command = "exec vnvram-swtpm socket --tpm2 --tpmstate \(place.state ?? "") --key pwdfd=9,mode=aes-256-cbc "
    let script = command + TestServer.unixSockets(place.folder).joined(separator: " ") + " 9< <(printf 'open, sesame')"
    let child = try place.start(["bash", "-c", script])
    var control: Socket?
    while child.isRunning, control == nil {
      control = try? Socket(path: place.path("tpm.ctrl"))
      usleep(2000)
    }
    #expect(control?.ask([0, 0, 0, 2, 0, 0, 0, 0]) == [0, 0, 0, 0], "\(child.text)")
    #expect(control?.ask([0, 0, 0, 3]) == [0, 0, 0, 0])
    #expect(child.wait() == 0, "\(child.text)")
    try place.write(Array("open, sesame\n".utf8), "password")
    let server = try TestServer(place, Self.state + ["--key", "pwdfile=\(place.path("password")),remove"])
    #expect(!FileManager.default.fileExists(atPath: place.path("password")))
    #expect(server.end() == 0)
  }

  // MARK: States that go over the control channel

  /// GET_STATEBLOB: the flags and the blob.
  private static func blob(_ control: Socket, inClear: Bool) throws -> (flags: UInt8, bytes: [UInt8]) {
    control.send([0, 0, 0, 0xC, 0, 0, 0, inClear ? 1 : 0, 0, 0, 0, 1, 0, 0, 0, 0])
    var answer = control.receive(atLeast: 16)
    try TestFailure.unless(answer.prefix(4) == [0, 0, 0, 0], "\(answer)")
    let size = answer[12..<16].reduce(0) { $0 << 8 | Int($1) }
    answer += control.receive(atLeast: 16 + size - answer.count)
    return (answer[7], Array(answer.dropFirst(16)))
  }

  /// SET_STATEBLOB of what is encrypted: the result.
  private static func set(_ control: Socket, _ blob: [UInt8]) -> [UInt8] {
    let size = (0..<4).map { UInt8(truncatingIfNeeded: blob.count >> (24 - 8 * $0)) }
    control.send([0, 0, 0, 0xD, 0, 0, 0, 2, 0, 0, 0, 1] + size + blob)
    return control.receive()
  }

  /// What isn't asked for in clear goes and comes under --key, as with swtpm: each takes the other's, and it is the
  /// same TPM there. The key is not where libtpms is; each use is on record.
  @Test(arguments: forms) func underTheKeyToSwtpmAndBack(form: Form) throws {
    let place = try Place.forFirstUse()
    try place.write(form.file, "key")
    let option = form.option.replacingOccurrences(of: "KEY", with: place.path("key"))
    let server = try TestServer(place, Self.state + ["--key", option])
    let control = try server.connect(.control)
    try server.connect(.data).run(TPMCommand.defineIndex)
    try server.connect(.data).run(TPMCommand.write(7))
    let sealed = try Self.blob(control, inClear: false)
    #expect(sealed.flags == 2 && sealed.bytes[5] & 1 == 1)
    #expect(try Self.blob(control, inClear: true).flags == 0)
    let swtpm = try DebianSwtpm(place, .directory, place.path("debian"), key: option, flags: "startup-none")
    let there = try swtpm.connect(.control)
    #expect(Self.set(there, sealed.bytes) == [0, 0, 0, 0], "\(swtpm.log)")
    #expect(there.ask([0, 0, 0, 2, 0, 0, 0, 0]) == [0, 0, 0, 0])
    let commands = try swtpm.connect(.data)
    _ = commands.ask([0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x44, 0, 0])
    #expect(try commands.index() == [UInt8](repeating: 7, count: TPMCommand.indexSize))
    try commands.run(TPMCommand.write(8))
    let back = try Self.blob(there, inClear: false)
    #expect(back.flags == 2)
    let stop: [UInt8] = [0, 0, 0, 0xE]
    #expect(control.ask(stop) == [0, 0, 0, 0])
    var changed = back.bytes
    changed[changed.count - 100] ^= 1
    #expect(Self.set(control, changed) == [0, 0, 0, 0x21])
    #expect(server.log.contains("another state key, or it was changed"), "\(server.log)")
    #expect(Self.set(control, back.bytes) == [0, 0, 0, 0], "\(server.log)")
    #expect(control.ask([0, 0, 0, 2, 0, 0, 0, 0]) == [0, 0, 0, 0])
    let data = try server.connect(.data)
    _ = data.ask([0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x44, 0, 0])
    #expect(try data.index() == [UInt8](repeating: 8, count: TPMCommand.indexSize))
    let records = String(decoding: try place.bytes("audit.jsonl"), as: UTF8.self)
    for text in [
      "permall, encrypted, by GET_STATEBLOB", "permall, in clear, by GET_STATEBLOB", "permall, encrypted, by SET_",
    ] {
      #expect(records.contains(text), "\(records)")
    }
    #expect(server.end() == 0)
  }

  /// A state of many parts: NV memory that is half full.
  @Test func aLargeStateUnderTheKey() throws {
    let place = try Place.forFirstUse()
    try place.write(Self.bytes, "key")
    let key = ["--key", "file=\(place.path("key")),format=binary,mode=aes-256-cbc"]
    let server = try TestServer(place, Self.state + key)
    let data = try server.connect(.data)
    for index in UInt8(0)..<40 {
      // TPM2_NV_DefineSpace of 2048 bytes, and a TPM2_NV_Write to it, so that they are there.
      let define: [UInt8] =
        [0x80, 2, 0, 0, 0, 45, 0, 0, 1, 0x2A, 0x40, 0, 0, 1, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]
        + [0, 14, 1, 0x50, 1, index, 0, 11, 2, 2, 0, 2, 0, 0, 8, 0]
      #expect(data.ask(define).prefix(2) == [0x80, 2])
      let write: [UInt8] =
        [0x80, 2, 0, 0, 4, 35, 0, 0, 1, 0x37, 0x40, 0, 0, 1, 1, 0x50, 1, index, 0, 0, 0, 9, 0x40, 0, 0, 9]
        + [0, 0, 0, 0, 0, 4, 0] + [UInt8](repeating: index, count: 1024) + [4, 0]
      #expect(data.ask(write).prefix(2) == [0x80, 2])
    }
    let control = try server.connect(.control)
    let (sealed, plain) = (try Self.blob(control, inClear: false), try Self.blob(control, inClear: true))
    #expect(sealed.bytes.count > 80_000 && sealed.flags == 2)
    #expect(control.ask([0, 0, 0, 0xE]) == [0, 0, 0, 0])
    #expect(Self.set(control, sealed.bytes) == [0, 0, 0, 0], "\(server.log)")
    #expect(control.ask([0, 0, 0, 2, 0, 0, 0, 0]) == [0, 0, 0, 0])
    #expect(try Self.blob(control, inClear: true).bytes == plain.bytes)
    #expect(server.end() == 0)
  }

  /// What INIT answers to a wrong key is what swtpm answers.
  @Test(arguments: [true, false]) func aWrongKeyAsWithSwtpm(isTPM2: Bool) throws {
    let place = try Place.forFirstUse(isTPM2: isTPM2)
    try place.write(Array("right".utf8), "right")
    try place.write(Array("wrong".utf8), "wrong")
    var answers: [String: [[UInt8]]] = [:]
    for key in ["right", "wrong"] {
      let option = "pwdfile=\(place.path(key))"
      let server = try TestServer(place, ["--key", option], isTPM2: isTPM2)
      let swtpm = try DebianSwtpm(
        place, .directory, place.path("debian"), key: option, isTPM2: isTPM2, flags: "startup-none")
      answers[key] = try [server.connect(.control), swtpm.connect(.control)].map { $0.ask([0, 0, 0, 2, 0, 0, 0, 0]) }
      #expect(server.end() == (key == "right" ? 0 : 4), "\(server.log)")
      swtpm.end()
    }
    #expect(answers["right"] == [[0, 0, 0, 0], [0, 0, 0, 0]])
    #expect(answers["wrong"]?[0] == answers["wrong"]?[1] && answers["wrong"]?[0] != [0, 0, 0, 0], "\(answers)")
  }

  @Test func wrongUse() throws {
    let place = try Place.forFirstUse()
    try place.write(Array("\n".utf8), "newline")
    try place.write([1, 2, 3], "short")
    for (arguments, status): ([String], Int32) in [
      (["--key", "file=\(place.path("short")),format=binary", "--keyring-key", "x"], 2),
      (["--key", "pwdfile=\(place.path("newline"))"], 4), (["--key", "file=\(place.path("short")),format=binary"], 4),
      (["--key", "file=\(place.path("nowhere"))"], 11), (["--keyring-key", "a:b"], 2), (["--keyring-key", "a%"], 2),
      (["--keyring-key", "%u"], 2), (["--keyring-key", ""], 2),
    ] {
      let outcome = try place.runServer(arguments)
      #expect(outcome.status == status, "\(arguments): \(outcome.text)")
    }
    #expect(try FileManager.default.contentsOfDirectory(atPath: place.path("state")) == [])
  }

  // MARK: --keyring-key

  /// Only the key that is named counts, though another opens the image too.
  @Test func onlyTheOneThatIsNamed() throws {
    let place = try Place()
    let other = KernelKey()
    other.load()
    #expect(try place.run(["vnvram", "slot", "add", place.image, "--key", other.name]).status == 0)
    var server = try TestServer(place, Self.state + ["--keyring-key", other.name])
    // The key that opened it goes, and the other one doesn't count.
    let client = try server.connect(.data)
    try client.run(TPMCommand.defineIndex)
    other.revoke()
    try server.waitUntilLogged("is locked and waits for a key: \(other.name)")
    #expect(TPMCommand.code(client.ask(TPMCommand.write(1))) == KeyLossTests.unavailable)
    usleep(300_000)
    #expect(TPMCommand.code(client.ask(TPMCommand.write(1))) == KeyLossTests.unavailable)
    other.load()
    try server.waitUntilLogged("the store is open")
    try client.run(TPMCommand.write(2))
    #expect(server.end() == 0)
    other.remove()
    let missing = try place.runServer(["--keyring-key", other.name])
    #expect(missing.status == 3 && missing.text.contains(other.name) && !missing.text.contains(place.key.name))
    let unknown = try place.runServer(["--keyring-key", "nobody"])
    #expect(unknown.status == 14 && unknown.text.contains("has no slot for key \"nobody\""), "\(unknown.text)")
    #expect(unknown.text.contains(place.key.name), "\(unknown.text)")
    let records = String(decoding: try place.bytes("audit.jsonl"), as: UTF8.self)
    #expect(records.contains("has no slot for key \\\"nobody\\\""), "\(records)")
    server = try TestServer(place, Self.state + ["--keyring-key", place.key.name])
    #expect(try server.connect(.data).index() == [UInt8](repeating: 2, count: TPMCommand.indexSize))
    #expect(server.end() == 0)
  }

  /// libvirt's folders have the domain's UUID.
  @Test func nameFromThePath() throws {
    let uuid = UUID().uuidString.lowercased()
    let place = try Place.forFirstUse(state: "\(uuid)/tpm2")
    let name = "vm%-\(uuid)"
    let server = try place.run([
      "keyctl", "session", "-", "bash", "-c",
      """
      vnvram key generate '\(name)' --keyring session && timeout 20 vnvram-swtpm socket --tpm2 --tpmstate '\(place.state ?? "")' \
      --keyring-key 'vm%%-%u' --ctrl type=unixio,path=c & \
      until [ -S c ]; do sleep 0.05; done; swtpm_ioctl --unix c -i && swtpm_ioctl --unix c -s && wait
      """,
    ])
    #expect(server.status == 0 && server.text.contains("made"), "\(server.text)")
    #expect(try place.run(["vnvram", "slot", "list", place.image]).text.contains(name))
  }

  /// A key that goes while a TPM runs whose image is in a folder: as with any other.
  @Test func keyLossInAFolder() throws {
    let place = try Place.forFirstUse()
    let server = try TestServer(place, Self.state + ["--keyring-key", place.key.name])
    let client = try server.connect(.data)
    try client.run(TPMCommand.defineIndex)
    try client.run(TPMCommand.write(1))
    place.key.revoke()
    try server.waitUntilLogged("is locked and waits for a key: \(place.key.name)")
    #expect(TPMCommand.code(client.ask(TPMCommand.write(2))) == KeyLossTests.unavailable)
    try client.run(TPMCommand.getRandom)
    place.key.load()
    try server.waitUntilLogged("the store is open")
    #expect(try client.index() == [UInt8](repeating: 1, count: TPMCommand.indexSize))
    try client.run(TPMCommand.write(3))
    #expect(server.end() == 0)
  }
}
