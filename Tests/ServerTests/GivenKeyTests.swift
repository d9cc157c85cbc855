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
