import Foundation
import TestSupport
import Testing

/// `--daemon` and `--pid`, with paths that are relative to where it was started.
@Suite struct DaemonTests {
  private static func command(_ image: String, _ more: [String] = []) -> [String] {
    [
      "vnvram-swtpm", "socket", "--tpm2", "--tpmstate", "backend-uri=vnvram://\(image)", "--daemon", "--server",
      "type=unixio,path=tpm", "--ctrl", "type=unixio,path=tpm.ctrl", "--flags", "not-need-init,startup-clear", "--pid",
      "file=tpm.pid", "--log", "file=log.tpm", "--audit", "audit.daemon",
    ] + more
  }

  /// The daemon that the PID file tells of, gone when the test is over.
  private final class Daemon {
    let identifier: pid_t
    private let place: Place

    init(_ place: Place) throws {
      self.place = place
      let text = try String(decoding: place.bytes("tpm.pid"), as: UTF8.self)
      try TestFailure.unless(text.hasSuffix("\n"), text)
      identifier = try #require(pid_t(text.dropLast()))
    }

    deinit { if place.names.contains("tpm.pid") { kill(identifier, SIGKILL) } }

    func value(_ name: String) throws -> String {
      let status = try String(contentsOfFile: "/proc/\(identifier)/status", encoding: .utf8)
      let line = status.split(separator: "\n").first { $0.hasPrefix(name + ":") }
      return try #require(line?.split(separator: "\t").last.map(String.init))
    }

    func link(_ name: String) throws -> String {
      try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(identifier)/\(name)")
    }

    func end() throws {
      kill(identifier, SIGTERM)
      for _ in 0..<5000 where place.names.contains("tpm.pid") { usleep(2000) }
      // Its files go before the image is closed.
      for _ in 0..<5000 where isThere { usleep(2000) }
    }

    private var isThere: Bool {
      (try? String(contentsOfFile: "/proc/\(identifier)/stat", encoding: .utf8)).map { !$0.contains(") Z ") } ?? false
    }
  }

  /// It serves when the command has ended; nothing of where it was started is kept.
  @Test func servesWhenItReturns() throws {
    let place = try Place()
    let started = try place.run(Self.command("tpm.vnvram"))
    #expect(started.status == 0 && started.text.isEmpty, "\(started.text)")
    let daemon = try Daemon(place)
    try Socket(path: place.path("tpm")).run(TPMCommand.defineIndex)
    #expect(try daemon.link("cwd") == "/")
    for stream in 0...2 { #expect(try daemon.link("fd/\(stream)") == "/dev/null") }
    // Whoever reads what it printed, to the end, isn't kept waiting.
    for descriptor in try FileManager.default.contentsOfDirectory(atPath: "/proc/\(daemon.identifier)/fd") {
      let target = try daemon.link("fd/\(descriptor)")
      #expect(!target.contains("/log-"), "\(descriptor): \(target)")
    }
    let session = getsid(daemon.identifier)
    #expect(session == daemon.identifier)
    #expect(try daemon.value("Seccomp") == "2")
    let mode = try FileManager.default.attributesOfItem(atPath: place.path("tpm.pid"))[.posixPermissions] as? Int
    #expect(mode == 0o644)

    // Its log and its record go on, to where they were when it was started; the sockets and the PID file go with it.
    place.key.revoke()
    let log = { String(decoding: (try? place.bytes("log.tpm")) ?? [], as: UTF8.self) }
    for _ in 0..<5000 where !log().contains("is locked and waits for a key") { usleep(2000) }
    #expect(log().contains("is locked and waits for a key"), "\(log())")
    #expect(try String(decoding: place.bytes("audit.daemon"), as: UTF8.self).contains("\"locked\""))
    try daemon.end()
    #expect(place.names == ["tpm.vnvram"])
    #expect(log().contains("ending on a signal"))
  }

  /// A key by standard input: its number isn't left to the next file that is opened, which a daemon would then replace.
  @Test func keysByStandardInput() throws {
    let place = try Place()
    let piped = { (options: [String]) in
      try place.run(["bash", "-c", "printf '%064d' 7 | \"$@\"", "bash"] + Self.command("tpm.vnvram", options))
    }
    let started = try piped(["--migration-key", "fd=0,mode=aes-256-cbc"])
    #expect(started.status == 0 && started.text.isEmpty, "\(started.text)")
    var daemon = try Daemon(place)
    try Socket(path: place.path("tpm")).run(TPMCommand.defineIndex)
    // What its threads tell each other is seen still.
    place.key.revoke()
    let log = { String(decoding: (try? place.bytes("log.tpm")) ?? [], as: UTF8.self) }
    for _ in 0..<5000 where !log().contains("is locked and waits for a key") { usleep(2000) }
    #expect(log().contains("is locked and waits for a key"), "\(log())")
    try daemon.end()
    place.key.load()
    #expect(try place.run(["vnvram", "check", "tpm.vnvram"]).status == 0)

    let added = try place.run(
      ["bash", "-c", "vnvram slot add tpm.vnvram --passphrase-fd 5 5< <(printf '%064d' 7)"])
    #expect(added.status == 0, "\(added.text)")
    #expect(try piped(["--key", "pwdfd=0"]).status == 0)
    daemon = try Daemon(place)
    for stream in 0...2 { #expect(try daemon.link("fd/\(stream)") == "/dev/null") }
    try Socket(path: place.path("tpm")).run(TPMCommand.write(1))
    try daemon.end()
    #expect(try place.run(["vnvram", "check", "tpm.vnvram"]).status == 0)
    for option in ["--key", "--migration-key"] {
      for descriptor in 1...2 {
        let refused = try piped([option, "pwdfd=\(descriptor)"])
        #expect(refused.status == 2 && refused.text.contains("1 and 2"), "\(refused.text)")
      }
    }
  }

  /// The parent ends as the server did that never came to serve, and says why; nothing is left.
  @Test func endsAsTheServerDoes() throws {
    let place = try Place()
    let absent = try place.run(Self.command("absent.vnvram"))
    #expect(absent.status == 11 && absent.text.contains("absent.vnvram"), "\(absent.text)")
    let server = try TestServer(place)
    let second = try place.run(
      Self.command("tpm.vnvram").map { $0.replacingOccurrences(of: "path=tpm", with: "path=x") })
    #expect(second.status == 9 && second.text.contains("in use"), "\(second.text)")
    #expect(server.end() == 0)
    // Told by the server's thread of the store, whether the key is asked for or not.
    place.key.remove()
    for upcall in ["yes", "no"] {
      let locked = try place.run(Self.command("tpm.vnvram", ["--upcall=\(upcall)"]))
      #expect(locked.status == 3 && locked.text.contains(place.key.name), "\(locked.text)")
    }
    #expect(place.names == ["tpm.vnvram"])
    // The log says it too.
    #expect(try String(decoding: place.bytes("log.tpm"), as: UTF8.self).contains("in use"))
  }

  /// SIGUSR1, by which whoever loads a key tells of it, ends neither the one that is starting nor the one that waits
  /// for it.
  @Test func keySignalWhileItStarts() throws {
    let place = try Place()
    // It starts for as long as its migration key doesn't come.
    let script = """
      mkfifo log.key
      "$@" --migration-key pwdfile=log.key,mode=aes-cbc & parent=$!
      until child=$(cat /proc/$parent/task/$parent/children) && [ -n "$child" ]; do sleep 0.01; done
      sleep 0.1
      kill -USR1 $parent $child || exit 50
      sleep 0.1
      echo password >log.key
      wait $parent
      """
    let outcome = try place.run(["bash", "-c", script, "bash"] + Self.command("tpm.vnvram"))
    #expect(outcome.status == 0, "\(outcome.text)")
    try Daemon(place).end()
    #expect(try String(decoding: place.bytes("log.tpm"), as: UTF8.self).contains("as SIGUSR1 asks"))
  }

  /// An old file is overwritten, as swtpm_setup's is, which is there and empty; what isn't a file isn't.
  @Test func pidFiles() throws {
    let place = try Place()
    try place.write(Array("123456789\n".utf8), "tpm.pid")
    #expect(try place.run(Self.command("tpm.vnvram")).status == 0)
    try Daemon(place).end()
    #expect(place.names == ["tpm.vnvram"])

    // One that was made, empty, for the server is filled, and none put in its place: swtpm_setup has it open, and waits
    // for that.
    try place.write([], "tpm.pid")
    let made = unsafe open(place.path("tpm.pid"), O_RDONLY | O_CLOEXEC)
    defer { close(made) }
    #expect(try place.run(Self.command("tpm.vnvram")).status == 0)
    let size = lseek(made, 0, SEEK_END)
    #expect(size > 1)
    try Daemon(place).end()

    try place.write(Array("precious".utf8), "log.precious")
    let image = try place.bytes()
    for name in ["tpm.vnvram", "log.precious"] {
      let other = try place.run(Self.command("tpm.vnvram", ["--pid", "file=\(name)"]))
      #expect(other.status == 15 && other.text.contains(name), "\(other.text)")
    }
    #expect(try place.bytes() == image && place.bytes("log.precious") == Array("precious".utf8))
    try place.write(Array("1\n".utf8), "log.one")
    try FileManager.default.linkItem(atPath: place.path("log.one"), toPath: place.path("log.two"))
    let hard = try place.run(Self.command("tpm.vnvram", ["--pid", "file=log.two"]))
    #expect(hard.status == 15 && hard.text.contains("log.two"), "\(hard.text)")
    #expect(try place.bytes("log.one") == Array("1\n".utf8))
    try FileManager.default.createSymbolicLink(atPath: place.path("tpm.pid"), withDestinationPath: "log.precious")
    let linked = try place.run(Self.command("tpm.vnvram"))
    #expect(linked.status == 11 && linked.text.contains("tpm.pid"), "\(linked.text)")
    #expect(try place.bytes("log.precious") == Array("precious".utf8))
    #expect(place.names == ["tpm.pid", "tpm.vnvram"], "the sockets are gone, the link isn't")
  }

  /// An empty file that another user made stays that user's, who could say later whom somebody ends: it is not filled,
  /// unless it is the user that the server goes on as.
  @Test(.enabled(if: geteuid() == 0)) func aPIDFileOfAnotherUsers() throws {
    let place = try Place()
    let nobody = try unsafe #require(getpwnam("nobody"))
    let (user, group) = unsafe (nobody.pointee.pw_uid, nobody.pointee.pw_gid)
    try FileManager.default.createDirectory(atPath: place.path("log-shared"), withIntermediateDirectories: false)
    let isShared = unsafe chmod(place.path("log-shared"), 0o1777) == 0
    try #require(isShared)
    let pid = place.path("log-shared/pid")
    try File.write([], to: pid)
    let isGiven = unsafe chown(pid, user, group) == 0
    try #require(isGiven)
    let refused = try place.runServer(["--pid", "file=\(pid)"])
    #expect(refused.status == 15 && refused.text.contains("isn't an old PID file; remove it"), "\(refused.text)")
    #expect(try File.bytes(pid).isEmpty)
    for path in [place.folder, place.image] {
      let given = unsafe chown(path, user, group) == 0
      try #require(given)
    }
    let server = try TestServer(
      place,
      TestServer.startsByItself
        + ["--pid", "file=\(pid)", "--runas", "nobody", "--audit", place.path("log-of-nobody")])
    #expect(String(decoding: try File.bytes(pid), as: UTF8.self) == "\(server.identifier)\n", "\(server.log)")
    #expect(server.end() == 0)
  }

  /// A descriptor's file is written and left to who opened it.
  @Test func pidByDescriptor() throws {
    let place = try Place()
    let script = """
      exec 7>log.pid
      vnvram-swtpm socket --tpm2 --tpmstate backend-uri=vnvram://tpm.vnvram --ctrl type=unixio,path=tpm.ctrl --pid fd=7 &
      until [ -s log.pid ]; do sleep 0.05; done
      [ "$(cat log.pid)" = $! ] && [ -S tpm.ctrl ] || exit 50
      swtpm_ioctl --unix tpm.ctrl -s && wait $! && [ -s log.pid ]
      """
    let outcome = try place.run(["bash", "-c", script])
    #expect(outcome.status == 0, "\(outcome.text)")
  }
}
