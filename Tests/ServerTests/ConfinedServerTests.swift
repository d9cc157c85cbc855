import Foundation
import TestSupport
import Testing

/// The server's confinement. That everything works under it is what all other tests here show, since they run it so;
/// what a confined process can't do is in ConfinementTests.
@Suite struct ConfinedServerTests {
  private static func status(_ process: pid_t) throws -> String {
    try String(contentsOfFile: "/proc/\(process)/status", encoding: .utf8)
  }

  @Test func asTheKernelSeesIt() throws {
    let place = try Place()
    let server = try TestServer(place)
    try server.connect(.data).run(TPMCommand.defineIndex)
    for process in [server.identifier, try server.worker] {
      let status = try Self.status(process)
      #expect(status.contains("NoNewPrivs:\t1\n") && status.contains("Seccomp:\t2\n"), "\(status)")
      // The thread that looks after the store is confined too.
      for thread in try FileManager.default.contentsOfDirectory(atPath: "/proc/\(process)/task") {
        let path = "/proc/\(process)/task/\(thread)/status"
        #expect(try String(contentsOfFile: path, encoding: .utf8).contains("Seccomp:\t2\n"))
      }
    }
    #expect(try Self.status(server.worker).contains("CapEff:\t0000000000000000\nCapBnd:\t0000000000000000\n"))
    #expect(server.end() == 0)
    #expect(place.names == ["tpm.vnvram"], "the sockets are removed")
  }

  @Test func withoutTheFilter() throws {
    let place = try Place()
    let server = try TestServer(place, TestServer.startsByItself + ["--seccomp", "action=none"])
    for process in [server.identifier, try server.worker] {
      #expect(try Self.status(process).contains("Seccomp:\t0\n"))
    }
    #expect(server.log.contains("system calls are not filtered"))
    #expect(server.end() == 0)
  }

  /// A filter of somebody else's that forbids landlock isn't taken for a kernel without it.
  @Test(.enabled(if: geteuid() == 0), arguments: [(EPERM, "forbidden to this process"), (ENOSYS, "has no landlock")])
  func withoutLandlock(code: Int32, says: String) throws {
    let place = try Place()
    // landlock_create_ruleset's number is returned with the code (seccomp(2), linux/filter.h).
    let script = """
      import ctypes, os, struct, sys
      steps = ((0x20, 0, 0, 0), (0x15, 0, 1, 444), (6, 0, 0, 0x50000 | \(code)), (6, 0, 0, 0x7FFF0000))
      program = b"".join(struct.pack("HBBI", *step) for step in steps)
      buffer = ctypes.create_string_buffer(program, len(program))
      filter = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 4, ctypes.addressof(buffer)))
      if ctypes.CDLL(None).prctl(22, 2, filter, 0, 0) != 0: sys.exit(99)
      os.execvp(sys.argv[1], sys.argv[1:])
      """
    let command = TestServer.command(place.image, TestServer.unixSockets(place.folder), [])
    let server = try place.start(["python3", "-c", script] + command)
    while server.isRunning, (try? Socket(path: place.path("tpm.ctrl"))) == nil { usleep(2000) }
    server.signal(SIGTERM)
    #expect(server.wait() == 0, "\(server.text)")
    #expect(server.text.contains(says) && server.text.contains("are not confined"), "\(server.text)")
  }

  /// A log that is moved away is made anew, in the directory that was there at the start.
  @Test func logsAreRotated() throws {
    let place = try Place()
    let server = try TestServer(place, TestServer.startsByItself + ["--audit", place.path("audit/log")])
    try FileManager.default.moveItem(atPath: place.path("audit/log"), toPath: place.path("audit/log.1"))
    place.key.revoke()
    try server.waitUntilLogged("is locked and waits for a key")
    for _ in 0..<1000 where !FileManager.default.fileExists(atPath: place.path("audit/log")) { usleep(2000) }
    let records = try String(decoding: place.bytes("audit/log"), as: UTF8.self)
    #expect(records.contains("\"locked\""), "\(records)")
    #expect(server.end() == 0)
  }

  /// The key is in the session keyring, which a process keeps; the record of uses is the other user's.
  @Test(.enabled(if: geteuid() == 0)) func asAnotherUser() throws {
    let place = try Place()
    let nobody = try unsafe #require(getpwnam("nobody"))
    let (user, group) = unsafe (nobody.pointee.pw_uid, nobody.pointee.pw_gid)
    let audit = place.path("audit-of-nobody")
    try FileManager.default.createDirectory(atPath: audit, withIntermediateDirectories: false)
    for path in [place.folder, audit] {
      let given = unsafe chown(path, user, group) == 0
      #expect(given)
    }
    let server = try TestServer(
      place, TestServer.startsByItself + ["--runas", "nobody", "--audit", audit + "/log"])
    try server.connect(.data).run(TPMCommand.defineIndex)
    for process in [server.identifier, try server.worker] {
      let status = try Self.status(process)
      #expect(status.contains("Uid:\t\(user)\t\(user)\t\(user)\t\(user)\n"), "\(status)")
    }
    #expect(try FileManager.default.attributesOfItem(atPath: audit + "/log")[.ownerAccountID] as? Int == Int(user))
    #expect(server.end() == 0)
    #expect(!place.names.contains("tpm"), "the sockets are removed")
    #expect(try place.wasClosedCleanly())
  }

  /// Nobody says where uses are recorded: it is a folder of that user's own, which root makes. (In a /var/log of its
  /// own.)
  @Test(.enabled(if: geteuid() == 0)) func theRecordOfAnotherUser() throws {
    let place = try Place()
    #expect(try place.run(["chown", "nobody", place.folder]).status == 0)
    let script = """
      mount -t tmpfs -o mode=755 none /var/log || exit 77
      unset VNVRAM_AUDIT_LOG
      for before in 'true' 'vnvram ls tpm.vnvram' 'install -d -m 755 /var/log/vnvram'; do
        rm -rf /var/log/vnvram; $before >/dev/null || exit 50
        "$@" --daemon --runas nobody --flags startup-clear --pid file=log.pid || exit $?
        swtpm_ioctl --unix tpm.ctrl -s || exit 51
        stat -c '%n %U %a' /var/log/vnvram /var/log/vnvram/nobody /var/log/vnvram/nobody/audit.jsonl
        grep -c '"started"' /var/log/vnvram/nobody/audit.jsonl
      done
      # Somebody else's is not written to.
      chown daemon /var/log/vnvram/nobody; "$@" --runas nobody --flags startup-clear; echo $?
      """
    let outcome = try place.run(
      ["unshare", "-m", "bash", "-c", script, "bash", "vnvram-swtpm", "socket", "--tpm2", "--tpmstate"]
        + ["backend-uri=vnvram://\(place.image)", "--ctrl", "type=unixio,path=tpm.ctrl", "--log", "file=log.tpm"])
    let expected = """
      /var/log/vnvram root 755
      /var/log/vnvram/nobody nobody 700
      /var/log/vnvram/nobody/audit.jsonl nobody 600
      1

      """
    #expect(outcome.text.hasPrefix(String(repeating: expected, count: 3)), "\(outcome.text)")
    #expect(outcome.text.hasSuffix("\n12\n"), "\(outcome.text)")
  }

  @Test func wrongOptions() throws {
    let place = try Place()
    for arguments in [["--runas", "no such user"], ["--seccomp", "action=perhaps"], ["--seccomp", "kill"]] {
      let outcome = try place.runServer(arguments)
      #expect(outcome.status == 2, "\(outcome.text)")
    }
    #expect(place.names == ["tpm.vnvram"])
  }
}
