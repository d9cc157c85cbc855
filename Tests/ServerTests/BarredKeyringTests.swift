import Foundation
import TestSupport
import Testing

/// Where a filter of system calls bars the kernel's keys, as container runtimes do: everything says so, and gives no
/// advice that is barred, too.
@Suite struct BarredKeyringTests {
  /// Runs a command under a filter that answers keyctl, add_key and request_key with an error number.
  private static let barred = """
    import ctypes, os, sys
    seccomp = ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    seccomp.seccomp_rule_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint]
    seccomp.seccomp_load.argtypes = [ctypes.c_void_p]
    filter = seccomp.seccomp_init(0x7FFF0000)
    for name in (b"keyctl", b"add_key", b"request_key"):
        number = seccomp.seccomp_syscall_resolve_name(name)
        assert seccomp.seccomp_rule_add(filter, 0x00050000 | int(sys.argv[1]), number, 0) == 0
    assert seccomp.seccomp_load(filter) == 0
    os.execvp(sys.argv[2], sys.argv[2:])
    """

  private func run(_ place: Place, _ code: Int32, _ command: [String]) throws -> Place.Outcome {
    try place.run(["python3", "-c", Self.barred, "\(code)"] + command)
  }

  /// What is said is that they are barred, with status 5.
  private func expectBarred(_ outcome: Place.Outcome, _ command: [String], status: Int32 = 5) {
    #expect(
      outcome.status == status && outcome.text.contains("keyctl(2) is not permitted"), "\(command): \(outcome.text)")
    for wrong in ["missing", "key load", "key generate", "no keys", "keyctl describe"] {
      #expect(!outcome.text.contains(wrong), "\(command): \(outcome.text)")
    }
  }

  @Test(arguments: [EPERM, ENOSYS]) func commands(code: Int32) throws {
    let place = try Place()
    try place.write([UInt8](repeating: 7, count: 32), "key")
    let (image, name) = (place.image, place.key.name)
    let commands = [
      ["key", "list"], ["key", "generate", "x"], ["key", "load", "x", "--file", "key"], ["key", "revoke", name],
      ["key", "unlink", name], ["ls", image], ["status", image], ["check", image], ["dump", image, "--der", "-o", "d"],
      ["get", image, "permall"], ["slot", "add", image, "--key", name], ["scrub", image],
      ["format", "new.vnvram", "--key", name, "--profile", "tpm2"],
    ]
    let before = try place.bytes()
    for command in commands { expectBarred(try run(place, code, ["vnvram"] + command), command) }
    #expect(try place.bytes() == before)
    #expect(place.names == ["key", "tpm.vnvram"])
    // What needs no key works.
    #expect(try run(place, code, ["vnvram", "info", image]).status == 0)
  }

  /// The server ends at once, whatever it was to wait for, and says what works.
  @Test(arguments: [EPERM, ENOSYS]) func theServer(code: Int32) throws {
    let place = try Place()
    let state = ["--tpmstate", "backend-uri=vnvram://\(place.image)"]
    let folder = try Place.forFirstUse()
    let control = ["--ctrl", "type=unixio,path=tpm.ctrl"]
    for options in [
      state, state + TestServer.startsByItself, state + ["--upcall=no"], state + ["--fail-on-encrypted-drive=no"],
      ["--tpmstate", try #require(folder.state), "--keyring-key", place.key.name],
    ] {
      let outcome = try run(place, code, ["vnvram-swtpm", "socket", "--tpm2"] + options + control)
      expectBarred(outcome, options)
      #expect(outcome.text.contains("--key"), "\(outcome.text)")
    }
    let printed = try run(place, code, ["vnvram-swtpm", "socket", "--tpm2", "--print-states"] + state)
    expectBarred(printed, ["--print-states"], status: 0)
    #expect(place.names == ["tpm.vnvram"])
  }

  /// With a key that is handed over, a TPM is made, used, and started again.
  @Test(arguments: [EPERM, ENOSYS]) func aKeyThatIsHandedOver(code: Int32) throws {
    let place = try Place.forFirstUse()
    try place.write([UInt8](repeating: 7, count: 32), "key")
    let command =
      ["vnvram-swtpm", "socket", "--tpm2", "--tpmstate", try #require(place.state)]
      + TestServer.unixSockets(place.folder)
      + TestServer.startsByItself + [
        "--key", "file=key,format=binary,mode=aes-256-cbc", "--daemon", "--log", "file=log.tpm",
      ]
    for round in 0..<2 {
      let started = try run(place, code, command)
      #expect(started.status == 0, "\(started.text)")
      let data = try Socket(path: place.path("tpm"))
      if round == 0 { try data.run(TPMCommand.defineIndex) }
      try data.run(TPMCommand.write(UInt8(round)))
      #expect(try data.index() == [UInt8](repeating: UInt8(round), count: TPMCommand.indexSize))
      #expect(try Socket(path: place.path("tpm.ctrl")).ask([0, 0, 0, 3]) == [0, 0, 0, 0])
    }
  }
}
