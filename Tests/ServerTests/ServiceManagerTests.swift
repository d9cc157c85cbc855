import Foundation
import TestSupport
import Testing

/// A service manager that is told how the server is (NOTIFY_SOCKET), and that passes sockets (LISTEN_FDS).
@Suite struct ServiceManagerTests {
  // MARK: Being told

  /// Starts `sys.argv[2:]` and reads what it says at `sys.argv[1]`; `expect` waits for a message from a process.
  private static let manager = """
    import atexit, os, signal, socket, struct, subprocess, sys
    name = sys.argv[1].replace("PID", str(os.getpid()))
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    manager.bind("\\0" + name[1:] if name.startswith("@") else name)
    manager.settimeout(60)
    seen = []
    def expect(text, process=None):
        looked = 0
        while True:
            for sender, lines in seen[looked:]:
                if any(line.startswith(text) for line in lines):
                    assert process is None or sender == process, (sender, process, seen)
                    return lines
            looked = len(seen)
            message, extra, _, _ = manager.recvmsg(4096, 256)
            seen.append((struct.unpack("iii", extra[0][2])[0], message.decode().splitlines()))
    def start():
        server = subprocess.Popen(sys.argv[2:], env={**os.environ, "NOTIFY_SOCKET": name})
        atexit.register(server.kill)
        return server

    """

  private func run(_ place: Place, _ script: String, at name: String, _ arguments: [String]) throws -> Place.Outcome {
    try place.run(
      ["python3", "-c", Self.manager + script, name, "vnvram-swtpm", "socket", "--tpm2", "--tpmstate"]
        + ["backend-uri=vnvram://\(place.image)", "--ctrl", "type=unixio,path=tpm.ctrl", "--upcall=no"] + arguments)
  }

  /// READY when it serves, STOPPING before it ends, both from the process that was started; and nobody that this starts
  /// hears of the socket.
  @Test(arguments: ["notify", "@vnvram-test-PID"]) func readyAndStopping(name: String) throws {
    let place = try Place()
    let name = name.hasPrefix("@") ? name : place.path(name)
    let script = """
      server = start()
      expect("READY=1", server.pid)
      assert os.path.exists("tpm.ctrl")
      for process in [server.pid] + [int(p) for p in open(f"/proc/{server.pid}/task/{server.pid}/children").read().split()]:
          if process != server.pid: assert b"NOTIFY_SOCKET" not in open(f"/proc/{process}/environ", "rb").read()
      expect("STATUS=" + sys.argv[6].split("//")[1] + " is open", server.pid)
      server.terminate()
      expect("STOPPING=1", server.pid)
      sys.exit(server.wait(60))
      """
    let outcome = try run(place, script, at: name, TestServer.startsByItself)
    #expect(outcome.status == 0, "\(outcome.text)")
  }

  /// Keys that are waited for are named; what is ready then is that clients are served.
  @Test func missingKeys() throws {
    let place = try Place()
    place.key.remove()
    let script = """
      server = start()
      line = expect("STATUS=" + sys.argv[6].split("//")[1] + " waits for a key: ", server.pid)
      expect("READY=1")
      assert "\(place.key.name)" in line[0] and len(line) == 1, line
      server.terminate()
      expect("STOPPING=1")
      sys.exit(server.wait(60))
      """
    let outcome = try run(
      place, script, at: place.path("notify"), TestServer.startsByItself + ["--fail-on-encrypted-drive=no"])
    #expect(outcome.status == 0, "\(outcome.text)")
  }

  /// The parent, which the manager knows, says which process goes on.
  @Test func ofADaemon() throws {
    let place = try Place()
    let script = """
      parent = start()
      lines = expect("READY=1", parent.pid)
      pid = int(open("tpm.pid").read())
      assert f"MAINPID={pid}" in lines and pid != parent.pid, lines
      assert parent.wait(60) == 0
      os.kill(pid, signal.SIGTERM)
      expect("STOPPING=1", pid)
      """
    let outcome = try run(
      place, script, at: place.path("notify"), TestServer.startsByItself + ["--daemon", "--pid", "file=tpm.pid"])
    #expect(outcome.status == 0, "\(outcome.text)")
  }

  /// A manager that can't be reached keeps nothing from working; neither does one that never reads.
  @Test func nobodyThere() throws {
    let place = try Place()
    for name in ["/nowhere/there", "relative", "@", "/" + String(repeating: "x", count: 200)] {
      let server = try place.start(
        ["env", "NOTIFY_SOCKET=\(name)", "vnvram-swtpm", "socket", "--tpm2", "--tpmstate"]
          + ["backend-uri=vnvram://\(place.image)", "--ctrl", "type=unixio,path=tpm.ctrl"])
      while server.isRunning, (try? Socket(path: place.path("tpm.ctrl"))) == nil { usleep(2000) }
      #expect(try Socket(path: place.path("tpm.ctrl")).ask([0, 0, 0, 3]) == [0, 0, 0, 0], "\(server.text)")
      #expect(server.wait() == 0 && server.text.contains("NOTIFY_SOCKET"), "\(server.text)")
    }
  }

  // MARK: Being passed sockets

  /// Becomes the server with sockets from descriptor 3 on, one for each word of `sys.argv[1]`: a name of the socket's
  /// file.
  private static let activation = """
    import os, socket, sys
    names = sys.argv[1].split(",")
    sockets = []
    for name in names:
        kind = socket.SOCK_DGRAM if name == "datagram" else socket.SOCK_STREAM
        one = socket.socket(socket.AF_UNIX, kind); one.bind(name); sockets.append(one)
        if kind == socket.SOCK_STREAM: one.listen()
    for number, one in enumerate(sockets): os.dup2(one.fileno(), 100 + number, inheritable=False)
    for number in range(len(sockets)): os.dup2(100 + number, 3 + number)
    os.environ["LISTEN_PID"] = sys.argv[3].replace("own", str(os.getpid()))
    os.environ["LISTEN_FDS"] = str(len(names))
    if sys.argv[2]: os.environ["LISTEN_FDNAMES"] = sys.argv[2]
    os.execvp(sys.argv[4], sys.argv[4:])
    """

  private func start(
    _ place: Place, _ sockets: String, names: String = "", process: String = "own", _ arguments: [String] = []
  ) throws -> Child {
    try place.start(
      ["python3", "-c", Self.activation, sockets, names, process, "vnvram-swtpm", "socket", "--tpm2", "--tpmstate"]
        + ["backend-uri=vnvram://\(place.image)"] + TestServer.startsByItself + arguments)
  }

  @Test func noStream() throws {
    let place = try Place()
    let server = try start(place, "datagram", names: "ctrl")
    #expect(server.wait() == 2, "\(server.text)")
    #expect(server.text.contains("no socket of streams"), "\(server.text)")
  }

  /// `ctrl` and `data` are sockets' names in the folder, which tell which channel is expected there.
  @Test(arguments: [
    ("ctrl", ""), ("ctrl,data", ""), ("ctrl,data", "swtpm.socket:swtpm.socket"), ("data,ctrl", "server:ctrl"),
    ("ctrl,data", "control:data"), ("data,ctrl", "data:other"),
  ]) func passed(sockets: String, names: String) throws {
    let place = try Place()
    for daemon in [[], ["--daemon", "--pid", "file=log.pid"]] {
      let server = try start(place, sockets, names: names, daemon)
      while (try? Socket(path: place.path("ctrl"))) == nil, server.isRunning { usleep(2000) }
      let control = try Socket(path: place.path("ctrl"))
      #expect(control.ask([0, 0, 0, 1]) == [0, 0, 0, 0, 0, 1, 0xFF, 0xFF], "\(server.text)")
      if sockets.contains("data") { try Socket(path: place.path("data")).run(TPMCommand.getRandom) }
      // Whose variables they were isn't told to others.
      if daemon.isEmpty {
        for child in try Child.children(of: server.identifier) {
          let environment = try String(contentsOfFile: "/proc/\(child)/environ", encoding: .utf8)
          #expect(!environment.contains("LISTEN_"))
        }
      }
      #expect(control.ask([0, 0, 0, 3]) == [0, 0, 0, 0])
      #expect(server.wait() == 0, "\(server.text)")
      // They are the manager's.
      for name in sockets.split(separator: ",") {
        #expect(place.names.contains(String(name)))
        try FileManager.default.removeItem(atPath: place.path(String(name)))
      }
    }
  }

  @Test func notForThisProcess() throws {
    let place = try Place()
    for process in ["1", "", "x"] {
      let server = try start(place, "ctrl", process: process)
      #expect(server.wait() == 2 && server.text.contains("--ctrl"), "\(server.text)")
      try FileManager.default.removeItem(atPath: place.path("ctrl"))
    }
  }

  @Test(arguments: [
    ("a,b,c", "", []), ("a,b", "ctrl:ctrl", []), ("a", "ctrl", ["--ctrl", "type=unixio,path=own"]),
    ("a,b", "", ["--server", "type=unixio,path=own"]),
  ]) func tooMany(sockets: String, names: String, options: [String]) throws {
    let place = try Place()
    let server = try start(place, sockets, names: names, options)
    #expect(server.wait() == 2 && server.text.contains("LISTEN_FDS"), "\(server.text)")
  }

  /// An option that names one by its number has the last word, and its own settings.
  @Test func byItsNumber() throws {
    let place = try Place()
    let server = try start(place, "ctrl", ["--ctrl", "type=unixio,fd=3,terminate"])
    var control: Socket?
    while control == nil, server.isRunning {
      usleep(2000)
      control = try? Socket(path: place.path("ctrl"))
    }
    #expect(control?.ask([0, 0, 0, 1]).count == 8)
    control = nil
    #expect(server.wait() == 0, "\(server.text)")
  }

  @Test(.enabled(if: FileManager.default.isExecutableFile(atPath: "/usr/bin/systemd-socket-activate")))
  func bySystemd() throws {
    let place = try Place()
    let server = try place.start(
      [
        "systemd-socket-activate", "-l", place.path("ctrl"), "--fdname=ctrl", "vnvram-swtpm", "socket", "--tpm2",
        "--tpmstate",
      ]
        + ["backend-uri=vnvram://\(place.image)"])
    while (try? Socket(path: place.path("ctrl"))) == nil, server.isRunning { usleep(2000) }
    let control = try Socket(path: place.path("ctrl"))
    #expect(control.ask([0, 0, 0, 1]).count == 8, "\(server.text)")
    #expect(control.ask([0, 0, 0, 3]) == [0, 0, 0, 0])
    #expect(server.wait() == 0, "\(server.text)")
  }
}
