import Foundation
import TestSupport
import Testing

/// `--log`.
@Suite struct LogTests {
  private static let end = ["--flags", "not-need-init,startup-clear"]

  private func log(_ place: Place, _ name: String = "log.tpm") throws -> String {
    String(decoding: try place.bytes(name), as: UTF8.self)
  }

  @Test func appendsToAFile() throws {
    let place = try Place()
    try place.write(Array("before\n".utf8), "log.tpm")
    let server = try TestServer(place, Self.end + ["--log", "file=\(place.path("log.tpm")),prefix=vm7: "])
    #expect(server.end() == 0)
    let text = try log(place)
    #expect(text.hasPrefix("before\n") && text.contains("\nvm7: ending on a signal\n"), "\(text)")
    #expect(!text.contains("vnvram-swtpm: "))
    #expect(!server.log.contains("ending on a signal"), "once it serves standard error has nothing more")

    let again = try TestServer(place, Self.end + ["--log", "file=\(place.path("log.tpm")),truncate"])
    #expect(again.end() == 0)
    #expect(try log(place).hasSuffix("vnvram-swtpm: ending on a signal\n"))
    #expect(try !log(place).contains("before"))
  }

  /// Made for its owner alone. What goes wrong at the start is on standard error, too, and nothing goes through a link.
  @Test func startupErrors() throws {
    let place = try Place()
    let outcome = try place.runServer(["--log", "file=\(place.path("log.tpm"))"], on: place.path("absent"))
    #expect(outcome.status == 11)
    #expect(try log(place) == outcome.text)
    let mode = try FileManager.default.attributesOfItem(atPath: place.path("log.tpm"))[.posixPermissions] as? Int
    #expect(mode == 0o600)
    try FileManager.default.createSymbolicLink(atPath: place.path("log.link"), withDestinationPath: "log.tpm")
    let linked = try place.runServer(["--log", "file=\(place.path("log.link"))"])
    #expect(linked.status == 11 && linked.text.contains("log.link"), "\(linked.text)")
  }

  @Test func toADescriptor() throws {
    let place = try Place()
    let command = TestServer.command(place.image, TestServer.unixSockets(place.folder), ["--log", "fd=7"])
    let script = "exec 7>log.fd; \(command.joined(separator: " ")) & until [ -S tpm.ctrl ]; do sleep 0.05; done; "
    let outcome = try place.run(["bash", "-c", script + "swtpm_ioctl --unix tpm.ctrl -i; kill %1; wait %1"])
    #expect(outcome.status == 0, "\(outcome.text)")
    #expect(try log(place, "log.fd").contains("ending on a signal"))
    let twice = try place.runServer(["--log", "fd=2,prefix=vm7: "], on: place.path("absent"))
    #expect(twice.text.hasPrefix("vm7: ") && twice.text.split(separator: "\n").count == 1, "\(twice.text)")
    let closed = try place.runServer(["--log", "fd=99"])
    #expect(closed.status == 2, "\(closed.text)")
  }

  /// Memory for keys that may be swapped is told of.
  @Test(.enabled(if: geteuid() == 0)) func unlockableMemory() throws {
    let place = try Place()
    let command = TestServer.command(place.image, TestServer.unixSockets(place.folder), [])
    let server = try place.start(
      ["bash", "-c", "ulimit -l 0; exec setpriv --bounding-set=-ipc_lock --inh-caps=-ipc_lock \"$@\"", "-"] + command)
    while server.isRunning, (try? Socket(path: place.path("tpm.ctrl"))) == nil { usleep(2000) }
    server.signal(SIGTERM)
    #expect(server.wait() == 0)
    #expect(server.text.contains("keys lie in memory that may be swapped"), "\(server.text)")
    let usual = try TestServer(place, [])
    #expect(usual.end() == 0)
    #expect(!usual.log.contains("swapped"), "\(usual.log)")
  }

  /// swtpm's level 20 is what its documents tell people to use; here it shows no more than any other.
  @Test func levels() throws {
    let place = try Place()
    let server = try TestServer(place, Self.end + ["--log", "file=\(place.path("log.tpm")),level=20"])
    try server.connect(.data).run(TPMCommand.defineIndex)
    #expect(server.end() == 0)
    let lines = try log(place).split(separator: "\n")
    #expect(lines.first?.contains("level=20") == true, "\(lines)")
    #expect(lines.count <= 6, "\(lines)")

    let silent = try TestServer(place, Self.end + ["--log", "file=-"])
    #expect(silent.end() == 0)
    #expect(!silent.log.contains("ending on a signal"))
  }

  // MARK: It never waits

  /// Starts a server through a script and waits until it answers on its control channel; without a time limit of ours:
  /// the control client has one.
  private func start(_ place: Place, _ script: String, _ arguments: [String]) throws -> Child {
    let command = TestServer.command(place.image, TestServer.unixSockets(place.folder), Self.end + arguments)
    let server = try place.start(["bash", "-c", script, "-"] + command)
    for _ in 0..<10_000 {
      if (try? Socket(path: place.path("tpm.ctrl")))?.ask([0, 0, 0, 1]).isEmpty == false { return server }
      try TestFailure.unless(server.isRunning, server.text)
      usleep(2000)
    }
    server.kill()
    throw TestFailure("it doesn't serve: \(server.text)")
  }

  private static let makePipe = "mkfifo log.pipe; exec 9<>log.pipe; "
  private static let fillPipe =
    "dd if=/dev/zero of=log.pipe oflag=nonblock bs=4096 count=999 conv=notrunc 2>/dev/null; "

  /// What is in a pipe, without waiting.
  private func drain(_ place: Place) throws -> (reader: Int32, text: String) {
    let reader = unsafe open(place.path("log.pipe"), O_RDONLY | O_NONBLOCK | O_CLOEXEC)
    try TestFailure.unless(reader >= 0, "no pipe")
    return (reader, rest(reader))
  }

  private func rest(_ reader: Int32) -> String {
    var buffer = [UInt8](repeating: 0, count: 4 << 20)
    let count = unsafe read(reader, &buffer, buffer.count)
    return String(decoding: buffer.prefix(max(0, count)), as: UTF8.self)
  }

  /// Nobody reads what is full: the TPM is there all the same, and says how much was lost once somebody does.
  @Test(arguments: ["2>&9 9>&-", "9>&9", "9>log.pipe"]) func fullPipe(redirection: String) throws {
    let place = try Place()
    let log = redirection.hasPrefix("2") ? "fd=2,level=20" : "fd=9,level=20"
    let script = Self.makePipe + Self.fillPipe + "sleep 600 <>log.pipe & trap 'kill $!' EXIT; \"$@\" \(redirection) & "
    let server = try start(
      place, script + "server=$!; trap 'kill -TERM $server' TERM; wait $server; wait $server", ["--log", log])
    let data = try Socket(path: place.path("tpm"))
    #expect(data.ask(TPMCommand.getRandom).count > 10)
    // Lines of its own while it runs, each of which would wait.
    for number in UInt8(99)..<104 {
      #expect(try Socket(path: place.path("tpm.ctrl")).ask([0, 0, 0, number]).isEmpty == false)
    }
    #expect(data.ask(TPMCommand.getRandom).count > 10)
    let (reader, filling) = try drain(place)
    defer { close(reader) }
    #expect(filling.utf8.allSatisfy { $0 == 0 } && !filling.isEmpty)
    server.signal(SIGTERM)
    #expect(server.wait() == 0, "\(server.text)")
    let lines = rest(reader).split(separator: "\n")
    #expect(lines.count == 2 && lines.last == "vnvram-swtpm: ending on a signal", "\(lines)")
    #expect(lines.first?.hasSuffix(" lines before this one could not be written, and are lost") == true, "\(lines)")
  }

  /// A FIFO that nobody reads doesn't keep it from starting, and keeps its lines until somebody does.
  @Test func fifoWithoutReader() throws {
    let place = try Place()
    let server = try start(
      place, "mkfifo log.pipe; exec \"$@\"", ["--log", "file=\(place.path("log.pipe")),level=20"])
    let (reader, text) = try drain(place)
    defer { close(reader) }
    #expect(text.contains("level=20"), "\(text)")
    server.signal(SIGTERM)
    #expect(server.wait() == 0, "\(server.text)")
    #expect(rest(reader).hasSuffix("vnvram-swtpm: ending on a signal\n"))
  }

  /// Its reader goes away: no SIGPIPE, and no failed write, ends the TPM.
  @Test func readerGoesAway() throws {
    let place = try Place()
    let server = try start(
      place, "mkfifo log.pipe; (read line; echo \"$line\") <log.pipe & exec \"$@\"",
      ["--log", "file=\(place.path("log.pipe")),level=20"])
    while !server.text.contains("level=20") { usleep(2000) }
    for number in UInt8(99)..<104 {
      #expect(try Socket(path: place.path("tpm.ctrl")).ask([0, 0, 0, number]).isEmpty == false)
    }
    server.signal(SIGTERM)
    #expect(server.wait() == 0, "\(server.text)")
  }

  @Test(.enabled(if: LoopFileSystem.isPermitted)) func fullDisk() throws {
    let place = try Place()
    let disk = try LoopFileSystem(in: place.folder, megabytes: 4)
    let log = disk.path + "/log.tpm"
    // A block of its own, which it fills to the last byte, so that there is not one more for it.
    try Data((String(repeating: "x", count: 4095) + "\n").utf8).write(to: URL(fileURLWithPath: log))
    try disk.fill()
    let server = try start(place, "exec \"$@\"", ["--log", "file=\(log),level=20"])
    for number in UInt8(99)..<104 {
      #expect(try Socket(path: place.path("tpm.ctrl")).ask([0, 0, 0, number]).isEmpty == false)
    }
    try disk.makeRoom()
    server.signal(SIGTERM)
    #expect(server.wait() == 0, "\(server.text)")
    let lines = try String(contentsOfFile: log, encoding: .utf8).split(separator: "\n")
    #expect(lines.last == "vnvram-swtpm: ending on a signal", "\(lines)")
    #expect(lines.dropLast().last?.hasSuffix("could not be written, and are lost") == true, "\(lines)")
  }
}
