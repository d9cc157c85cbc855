import Foundation
import TestSupport
import Testing

/// States that go from Debian's swtpm to this server and back, by swtpm_ioctl: an NV index, a persistent key, a
/// measurement that is in the volatile state, all still there and of use.
@Suite struct MigrationTests {
  static let secret = "the secret of NV"

  /// Runs a tpm2 tool somewhere; what it says where it succeeds.
  private typealias Run = ([String]) throws -> Tool.Result

  private func succeed(_ run: Run, _ arguments: String..., comment: String = "") throws -> String {
    let result = try run(arguments)
    try TestFailure.unless(result.status == 0, "\(arguments): \(result.output)")
    return result.output
  }

  private func fill(_ run: Run, _ folder: String) throws -> String {
    try Self.secret.write(toFile: "\(folder)/secret", atomically: true, encoding: .utf8)
    _ = try succeed(run, "tpm2_startup", "-c")
    _ = try succeed(run, "tpm2_nvdefine", "0x1500020", "-C", "o", "-s", "16", "-a", "ownerread|ownerwrite")
    _ = try succeed(run, "tpm2_nvwrite", "0x1500020", "-C", "o", "-i", "\(folder)/secret")
    _ = try succeed(run, "tpm2_createprimary", "-C", "o", "-G", "ecc", "-c", "\(folder)/primary.ctx")
    _ = try succeed(run, "tpm2_evictcontrol", "-C", "o", "-c", "\(folder)/primary.ctx", "0x81000001")
    // There is no resource manager, and room for three objects.
    _ = try succeed(run, "tpm2_flushcontext", "-t")
    _ = try succeed(run, "tpm2_pcrextend", "16:sha256=" + String(repeating: "5a", count: 32))
    return try identity(run)
  }

  /// The persistent key's public part and the measurement.
  private func identity(_ run: Run) throws -> String {
    try succeed(run, "tpm2_readpublic", "-c", "0x81000001") + succeed(run, "tpm2_pcrread", "sha256:16")
  }

  private func check(_ run: Run, _ folder: String, _ identity: String) throws {
    #expect(try self.identity(run) == identity)
    #expect(try succeed(run, "tpm2_nvread", "0x1500020", "-C", "o", "-s", "16") == Self.secret)
    // The key is of use.
    let files = ["-u", "\(folder)/k.pub", "-r", "\(folder)/k.priv"]
    let made = try run(["tpm2_create", "-C", "0x81000001", "-i", "\(folder)/secret"] + files)
    #expect(made.status == 0, "\(made.output)")
    let loaded = try run(["tpm2_load", "-C", "0x81000001", "-c", "\(folder)/k.ctx"] + files)
    #expect(loaded.status == 0, "\(loaded.output)")
    #expect(try succeed(run, "tpm2_unseal", "-c", "\(folder)/k.ctx") == Self.secret)
    _ = try succeed(run, "tpm2_flushcontext", "-t")
  }

  private func save(_ control: (String...) throws -> Tool.Result, _ folder: String) throws {
    for name in ["permanent", "volatile"] {
      try? FileManager.default.removeItem(atPath: "\(folder)/\(name)")
      let saved = try control("--save", name, "\(folder)/\(name)")
      try TestFailure.unless(saved.status == 0, saved.output)
    }
  }

  private func load(_ control: (String...) throws -> Tool.Result, _ folder: String) throws {
    _ = try control("--stop")
    for name in ["permanent", "volatile"] {
      let loaded = try control("--load", name, "\(folder)/\(name)")
      try TestFailure.unless(loaded.status == 0, loaded.output)
    }
  }

  enum Key: String, CaseIterable {
    case none
    case hexadecimal = "file=key,mode=aes-cbc"
    case binary = "file=key,format=binary,mode=aes-256-cbc"
    case password = "pwdfile=key,mode=aes-256-cbc"
    case hashedPassword = "pwdfile=key,kdf=sha512,mode=aes-cbc"

    func arguments(_ directory: TestDirectory) throws -> [String] {
      if self == .none { return [] }
      try directory.write(
        self == .hexadecimal ? "000102030405060708090a0b0c0d0e0f" : "0123456789abcdef0123456789abcdef", "key")
      return ["--migration-key", rawValue.replacing("=key,", with: "=\(directory.path)/key,")]
    }
  }

  @Test(arguments: Key.allCases) func fromSwtpmAndBack(key: Key) throws {
    let directory = try TestDirectory()
    let arguments = try key.arguments(directory)
    let folder = directory.path
    let swtpm = try Swtpm(directory, ["--tpm2"] + arguments)
    let server = try TestServer(directory, arguments)
    let there: Run = { try Tool.run($0, in: folder, environment: ["TPM2TOOLS_TCTI": "swtpm:path=\(swtpm.dataPath)"]) }
    let here: Run = { try Tool.run($0, in: folder, environment: ["TPM2TOOLS_TCTI": "swtpm:path=\(server.dataPath)"]) }
    #expect(try server.control("-g").output.contains(key == .none ? "0x0" : "0x2"))

    try #require(try swtpm.control("-i").status == 0)
    let identity = try fill(there, folder)
    try save(swtpm.control, folder)
    let blob = try #require(directory.read("permanent"))
    #expect(blob.prefix(4) == [2, 1, 0, 10])
    #expect(Data(blob).range(of: Data(Self.secret.utf8)) == nil || key == .none)
    try load(server.control, folder)
    // Not -i, which deletes the volatile state.
    #expect(try Socket(server, .control).ask("00000002 00000000") == "00000000")
    try check(here, folder, identity)
    // It is in the store now, and without the container.
    #expect(try #require(directory.read("state/permall")).prefix(6) == [0, 3, 0xAB, 0x36, 0x47, 0x23])

    // And back, changed in the meantime.
    let rewrite = try here(["tpm2_pcrextend", "16:sha256=" + String(repeating: "a5", count: 32)])
    #expect(rewrite.status == 0, "\(rewrite.output)")
    let later = try self.identity(here)
    #expect(later != identity)
    // In parts only what isn't encrypted anew for each.
    let part = try Socket(server, .control).ask("0000000c 00000001 00000001 00000010")
    #expect(key == .none ? part.hasPrefix("00000000") : part == "00000003" + String(repeating: "0", count: 24))
    try save(server.control, folder)
    #expect(directory.read("state/volatilestate") == nil, "what was handed out is not kept")
    try load(swtpm.control, folder)
    #expect(try Socket(path: swtpm.controlPath).ask("00000002 00000000") == "00000000")
    try check(there, folder, later)
  }

  @Test func withTheWrongKeyOrWithout() throws {
    let directory = try TestDirectory()
    let swtpm = try Swtpm(directory, ["--tpm2"] + Key.binary.arguments(directory))
    try #require(try swtpm.control("-i").status == 0)
    try save(swtpm.control, directory.path)
    let server = try TestServer(directory)
    #expect(try Socket(server, .control).ask("00000002 00000000") == "00000000")
    #expect(try server.control("--stop").status == 0)
    let permall = directory.read("state/permall")
    #expect(try server.control("--load", "permanent", "\(directory.path)/permanent").output.contains("0xd"))
    #expect(server.log.contains("encrypted with a migration key, and none was given"))
    server.kill()
    try directory.write("another key, also of thirty-two b", "key")
    let other = try TestServer(directory, ["--migration-key", "pwdfile=\(directory.path)/key,mode=aes-256-cbc"])
    #expect(try other.control("--load", "permanent", "\(directory.path)/permanent").output.contains("0x21"))
    #expect(other.log.contains("made with another migration key, or it was changed"))
    // What is stored is not touched, and the TPM starts from that.
    #expect(directory.read("state/permall") == permall)
    #expect(try Socket(other, .control).ask("00000002 00000000") == "00000000")
  }

  /// A blob without a state doesn't make libtpms manufacture a new TPM over the one that is stored, as it would by
  /// itself.
  @Test(arguments: ["0000000d 00000000 00000001 00000000", "0000000d 00000000 00000001 0000000a 0201000a00000000000a"])
  func anEmptyPermanentState(request: String) throws {
    let directory = try TestDirectory()
    let server = try TestServer(directory, ["--flags", "startup-clear"])
    let (data, control) = (try Socket(server, .data), try Socket(server, .control))
    #expect(data.ask(StoreFaultTests.define(0)).hasPrefix("8002"))
    #expect(control.ask("0000000e") == "00000000")
    #expect(control.ask(request) == "00000000")
    #expect(control.ask("00000002 00000000") == "00000000")
    #expect(data.ask(DataChannelTests.startup) == "80010000000a00000000")
    #expect(data.ask(StoreFaultTests.define(0)) == "80010000000a0000014c")
  }

  // MARK: Under the state key

  /// GET_STATEBLOB of the permanent state; `flags`: 1 in clear.
  private func blob(_ control: Socket, flags: Int) throws -> (flags: UInt32, bytes: [UInt8]) {
    control.send(bytes("0000000c 0000000\(flags) 00000001 00000000"))
    var answer = control.receive(atLeast: 16)
    try TestFailure.unless(answer.prefix(4) == [0, 0, 0, 0], answer.hex)
    answer += control.receive(atLeast: 16 + Int(answer.integer(at: 12)) - answer.count)
    return (answer.integer(at: 4), Array(answer.dropFirst(16)))
  }

  private func set(_ control: Socket, _ blob: [UInt8], flags: Int = 0) -> String {
    control.send(bytes("0000000d 0000000\(flags) 00000001 \(String(format: "%08x", blob.count))") + blob)
    return control.receive().hex
  }

  struct StateKey: CustomStringConvertible, Sendable {
    let option: String
    let migrationKey: String?
    var description: String { option + (migrationKey == nil ? "" : " and a migration key") }
    func arguments(_ directory: TestDirectory) throws -> [String] {
      try directory.write("a password, and not a short one", "state.key")
      try directory.write("0123456789abcdef0123456789abcdef", "migration.key")
      return ["--key", option.replacing("FILE", with: "\(directory.path)/state.key")]
        + (migrationKey.map { ["--migration-key", $0.replacing("FILE", with: "\(directory.path)/migration.key")] } ?? [])
    }
  }

  /// A state that isn't asked for in clear goes under --key, in both directions between swtpm and here, as swtpm has
  /// it; who hasn't the key can't take it.
  @Test(arguments: [
    StateKey(option: "pwdfile=FILE,mode=aes-256-cbc", migrationKey: nil),
    StateKey(option: "pwdfile=FILE,kdf=sha512,mode=aes-cbc", migrationKey: nil),
    StateKey(option: "pwdfile=FILE,mode=aes-256-cbc", migrationKey: "file=FILE,format=binary,mode=aes-256-cbc"),
    StateKey(option: "pwdfile=FILE", migrationKey: "file=FILE,mode=aes-cbc"),
  ]) func underTheStateKey(key: StateKey) throws {
    let directory = try TestDirectory()
    let arguments = try key.arguments(directory)
    let swtpm = try Swtpm(directory, ["--tpm2"] + arguments)
    let server = try TestServer(directory, arguments)
    let (there, here) = (try Socket(path: swtpm.controlPath), try Socket(server, .control))
    for control in [there, here] { #expect(control.ask("00000002 00000000") == "00000000") }
    #expect(here.ask("0000000f") == there.ask("0000000f"))
    let own = try #require(directory.read("state/permall"))
    for (source, target) in [(here, there), (there, here)] {
      let (sealed, plain) = (try blob(source, flags: 0), try blob(source, flags: 1))
      #expect(sealed.flags == 2 && plain.flags == 0)
      // Version, least version, header size and flags, which say both keys' sizes.
      #expect(sealed.bytes[5] & 0x0D == 5 | (key.option.contains("256") ? 8 : 0))
      #expect(Data(sealed.bytes).range(of: Data(own[20..<60])) == nil)
      #expect(plain.bytes[5] & 1 == 0)
      let before = plain.bytes
      #expect(target.ask("0000000e") == "00000000")
      #expect(set(target, sealed.bytes, flags: 2) == "00000000")
      // What says by its header alone that it is encrypted, and one that is changed.
      #expect(set(target, sealed.bytes) == "00000000")
      var changed = sealed.bytes
      changed[changed.count / 2] ^= 1
      #expect(set(target, changed, flags: 2) == "00000021")
      #expect(set(target, sealed.bytes, flags: 2) == "00000000")
      #expect(target.ask("00000002 00000000") == "00000000")
      let taken = try blob(target, flags: 1).bytes
      #expect(key.migrationKey != nil || taken == before, "the same TPM")
    }
    #expect(here.ask("0000000c 00000000 00000001 00000010") == "00000003" + String(repeating: "0", count: 24))
    #expect(server.log.contains("handed out whole"))
  }

  /// Neither swtpm nor this server takes it without the key.
  @Test func underAStateKeyThatIsNotThere() throws {
    let directory = try TestDirectory()
    let swtpm = try Swtpm(
      directory, ["--tpm2"] + StateKey(option: "pwdfile=FILE", migrationKey: nil).arguments(directory))
    let there = try Socket(path: swtpm.controlPath)
    #expect(there.ask("00000002 00000000") == "00000000")
    let sealed = try blob(there, flags: 0).bytes
    let server = try TestServer(directory)
    let other = try Swtpm(TestDirectory(), ["--tpm2"])
    for control in [try Socket(server, .control), try Socket(path: other.controlPath)] {
      #expect(set(control, sealed, flags: 2) == "0000000d")
      #expect(set(control, sealed) == "0000000d")
    }
    #expect(server.log.contains("encrypted with a state key, and none was given"))
  }

  /// What swtpm wrote before April 2018. In clear it is taken; encrypted it has no MAC, and is refused, though swtpm
  /// takes it.
  @Test func blobsOfVersionOne() throws {
    let directory = try TestDirectory()
    let key = ["--migration-key", "file=\(directory.path)/key,format=binary,mode=aes-cbc"]
    try directory.write("0123456789abcdef", "key")
    let server = try TestServer(directory, key)
    let swtpm = try Swtpm(TestDirectory(), ["--tpm2"] + key)
    let source = try TestServer(TestDirectory())
    #expect(try Socket(source, .control).ask("00000002 00000000") == "00000000")
    let state = try #require(source.directory.read("state/permall"))
    let plain = bytes("0101000a0000\(String(format: "%08x", state.count + 10))") + state
    // SHA-256 and the state, padded, under AES-128-CBC with a vector of zeroes.
    try directory.write(state, "plain")
    let made = try Tool.run(
      [
        "bash", "-c",
        """
        { openssl dgst -sha256 -binary plain; cat plain; } |
          openssl enc -aes-128-cbc -K $(printf 0123456789abcdef | od -An -tx1 | tr -d ' \n') -iv 00000000000000000000000000000000 >sealed
        """,
      ], in: directory.path, environment: [:])
    try #require(made.status == 0, "\(made.output)")
    let content = try #require(directory.read("sealed"))
    let sealed = bytes("0101000a0006\(String(format: "%08x", content.count + 10))") + content
    let (here, there) = (try Socket(server, .control), try Socket(path: swtpm.controlPath))
    #expect(set(there, sealed) == "00000000", "it is one that swtpm takes")
    #expect(set(here, sealed) == "0000002e")
    #expect(server.log.contains("version 1") && server.log.contains("can do so unnoticed"))
    for control in [here, there] {
      #expect(set(control, plain) == "00000000")
      #expect(control.ask("00000002 00000000") == "00000000")
    }
    #expect(directory.read("state/permall") == state)
  }

  /// A TPM 1.2 with its three states, in clear and with a key.
  @Test(arguments: [Key.none, .hashedPassword]) func tpm12(key: Key) throws {
    let directory = try TestDirectory()
    let arguments = try key.arguments(directory)
    let swtpm = try Swtpm(directory, arguments)
    let server = try TestServer(directory, ["--tpm1.2"] + arguments)
    let there = (data: try Socket(path: swtpm.dataPath), control: try Socket(path: swtpm.controlPath))
    let here = (data: try Socket(server, .data), control: try Socket(server, .control))
    // TPM_Startup(ST_CLEAR), TPM_Extend of PCR 10, TPM_SaveState.
    #expect(there.control.ask("00000002 00000000") == "00000000")
    #expect(there.data.ask("00c1 0000000c 00000099 0001") == "00c40000000a00000000")
    let extended = there.data.ask("00c1 00000022 00000014 0000000a" + String(repeating: "5a", count: 20))
    #expect(extended.hasPrefix("00c40000001e00000000"))
    #expect(there.data.ask("00c1 0000000a 00000098") == "00c40000000a00000000")
    try carry(from: there.control, to: here.control)
    #expect(here.control.ask("00000002 00000000") == "00000000")
    // swtpm forgets it here, and would have none to hand out again. The next command makes it void.
    #expect(directory.read("state/savestate") != nil)
    let read = "00c1 0000000e 00000015 0000000a"
    #expect(here.data.ask(read) == extended)
    #expect(directory.read("state/savestate") == nil)
    let again = here.data.ask("00c1 00000022 00000014 0000000a" + String(repeating: "a5", count: 20))
    try carry(from: here.control, to: there.control)
    #expect(there.control.ask("00000002 00000000") == "00000000")
    #expect(there.data.ask(read) == again && again != extended)
  }

  /// All three states, as QEMU carries them.
  private func carry(from source: Socket, to target: Socket) throws {
    var blobs: [[UInt8]] = []
    for type in 1...3 {
      source.send(bytes("0000000c 00000001 0000000\(type) 00000000"))
      var answer = source.receive(atLeast: 16)
      let size = Int(answer.integer(at: 12))
      answer += source.receive(atLeast: 16 + size - answer.count)
      blobs.append(Array(answer.dropFirst(16)))
    }
    #expect(target.ask("0000000e") == "00000000")
    for (index, blob) in blobs.enumerated() where !blob.isEmpty {
      let size = String(format: "%08x", blob.count)
      target.send(bytes("0000000d 00000000 0000000\(index + 1) \(size)") + blob)
      #expect(target.receive().hex == "00000000")
    }
  }

  /// Larger than what a socket takes at once, in both directions: a TPM whose NV memory is full.
  @Test func largeStates() throws {
    let directory = try TestDirectory()
    let server = try TestServer(directory, ["--flags", "startup-clear"])
    var (data, control) = (try Socket(server, .data), try Socket(server, .control))
    var indices = 0
    while indices < 255 {
      let define =
        "8002 0000002d 0000012a 40000001 00000009 40000009 0000 00 0000 0000"
        + "000e 015000\([UInt8(indices)].hex) 000b 02020002 0000 0800"
      guard data.ask(define).hasPrefix("8002") else { break }
      let index = "015000\([UInt8(indices)].hex)"
      for part in 0..<2 {
        let write =
          "8002 00000423 00000137 40000001 \(index) 00000009 40000009 0000 00 0000 0400"
          + String(repeating: "7e", count: 1024) + (part == 0 ? "0000" : "0400")
        #expect(data.ask(write).hasPrefix("8002"))
      }
      indices += 1
    }
    let stored = try #require(directory.read("state/permall"))
    #expect(stored.count > 140_000)
    control.send(bytes("0000000c 00000001 00000001 00000000"))
    // Time for the socket to be full.
    usleep(50_000)
    let answer = control.receive(atLeast: 16 + stored.count + 22)
    #expect(answer.count == 16 + stored.count + 22)
    #expect(Array(answer.suffix(stored.count)) == stored)
    #expect(control.ask("0000000e") == "00000000")
    let blob = Array(answer.dropFirst(16))
    let other = try TestServer(TestDirectory())
    (data, control) = (try Socket(other, .data), try Socket(other, .control))
    control.send(bytes("0000000d 00000000 00000001 \(String(format: "%08x", blob.count))") + blob)
    #expect(control.receive().hex == "00000000")
    #expect(control.ask("00000002 00000000") == "00000000")
    #expect(other.directory.read("state/permall") == stored)
  }

  /// A size that no state has is read past, and what follows is understood.
  @Test func tooLargeAState() throws {
    let server = try TestServer(TestDirectory())
    let control = try Socket(server, .control)
    let size = 300_000
    control.send(bytes("0000000d 00000000 00000001 \(String(format: "%08x", size))"))
    for _ in 0..<(size / 10_000) { control.send([UInt8](repeating: 0, count: 10_000)) }
    #expect(control.receive().hex == "00000003")
    #expect(control.ask("0000000e") == "00000000")
    // And one that doesn't come.
    #expect(control.ask("0000000d 00000000 00000001 00000100 0201") == "")
  }
}
