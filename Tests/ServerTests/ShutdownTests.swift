import Foundation
import TestSupport
import Testing

/// SHUTDOWN is answered when nothing of the server is in the next one's way.
@Suite struct ShutdownTests {
  private static let shutDown: [UInt8] = [0, 0, 0, 3]
  private static let done: [UInt8] = [0, 0, 0, 0]

  /// The next server is started as soon as swtpm_ioctl returns, which it does on the answer. (Before, 3 of 40 got
  /// status 9.)
  @Test func theNextServerAtOnce() throws {
    let place = try Place(["--profile", "tpm2", "--anchor", "anchor"])
    let script = """
      for i in $(seq 40); do
        "$@" --daemon --pid file=pid --anchor anchor || { s=$?; echo "start $i: status $s"; exit $s; }
        swtpm_ioctl --unix ctrl -i 0 || exit 51
        swtpm_ioctl --unix ctrl -s || exit 52
        for name in ctrl data pid; do [ ! -e $name ] || { echo "$i: $name is there"; exit 53; }; done
      done
      """
    let outcome = try place.run(
      [
        "bash", "-c", script, "bash", "vnvram-swtpm", "socket", "--tpm2", "--tpmstate",
        "backend-uri=vnvram://\(place.image)",
      ]
        + ["--ctrl", "type=unixio,path=ctrl", "--server", "type=unixio,path=data", "--log", "file=-"])
    #expect(outcome.status == 0, "\(outcome.text)")
  }

  /// A server that starts tries for a second to get a lock; so the lock is looked at here.
  @Test func theLockIsGone() throws {
    let place = try Place()
    let script = """
      import fcntl, os, socket, sys
      control = socket.socket(socket.AF_UNIX); control.connect("tpm.ctrl"); control.settimeout(60)
      image = open(sys.argv[1], "r+b")
      try: fcntl.lockf(image, fcntl.LOCK_EX | fcntl.LOCK_NB); sys.exit("not locked")
      except BlockingIOError: pass
      control.sendall(bytes([0, 0, 0, 3]))
      assert control.recv(4) == bytes(4)
      fcntl.lockf(image, fcntl.LOCK_EX | fcntl.LOCK_NB)
      names = {"tpm", "tpm.ctrl"} & set(os.listdir("."))
      assert not names, names
      """
    for _ in 0..<10 {
      let server = try TestServer(place)
      let outcome = try place.run(["python3", "-c", script, place.image])
      #expect(outcome.status == 0, "\(outcome.text)")
      #expect(server.wait() == 0)
      #expect(try place.wasClosedCleanly())
    }
  }

  /// Who asked hung up, a signal comes at the same time, others ask, too: it ends as it should.
  @Test func whileItEnds() throws {
    let place = try Place()
    for round in 0..<3 {
      let server = try TestServer(place)
      let (other, data) = (try server.connect(.control), try server.connect(.data))
      var control: Socket? = try server.connect(.control)
      control?.send(Self.shutDown)
      switch round {
      case 0: control = nil
      case 1: server.signal(SIGTERM)
      default: other.send(Self.shutDown)
      }
      if round == 2 {
        let answers = [control?.receive(), other.receive()]
        #expect(answers.contains(Self.done), "one of both was first")
      }
      #expect(server.wait() == 0, "\(server.log)")
      #expect(data.receive().isEmpty)
      #expect(try place.wasClosedCleanly())
      #expect(place.names == ["tpm.vnvram"])
    }
  }

  /// What the next server has by the same name is not the one's any more that still ends.
  @Test func theNextServersFilesStay() throws {
    let place = try Place()
    let first = try TestServer(place, TestServer.startsByItself + ["--pid", "file=pid"])
    let pid = try String(decoding: place.bytes("pid"), as: UTF8.self)
    #expect(pid == "\(first.identifier)\n")
    #expect(try first.connect(.control).ask(Self.shutDown) == Self.done)
    let names = ["pid", "tpm", "tpm.ctrl"]
    for name in names { try place.write(Array("next\n".utf8), name) }
    #expect(first.wait() == 0)
    for name in names { #expect(try place.bytes(name) == Array("next\n".utf8)) }
  }

  /// A machine's own PID file that somebody put another in the place of is left alone.
  @Test func aPIDFileThatIsAnothers() throws {
    let place = try Place()
    let server = try TestServer(place, TestServer.startsByItself + ["--pid", "file=pid"])
    try place.write(Array("42\n".utf8), "pid.new")
    _ = unsafe rename(place.path("pid.new"), place.path("pid"))
    #expect(server.end() == 0)
    #expect(try place.bytes("pid") == Array("42\n".utf8))
  }

  /// The file is there whole or not at all, from the first start to the last.
  @Test func thePIDFileIsNeverEmpty() throws {
    let place = try Place()
    let script = """
      import os, subprocess, sys
      seen = 0
      for _ in range(10):
          server = subprocess.Popen(sys.argv[1:])
          while server.poll() is None:
              try: text = open("pid").read()
              except FileNotFoundError: continue
              assert text == f"{server.pid}\\n" or text.strip() == "4194304", repr(text)
              if text == f"{server.pid}\\n":
                  if os.path.exists("stopped"): continue
                  open("stopped", "w"); seen += 1
                  assert os.path.exists("tpm.ctrl")
                  server.terminate()
          os.unlink("stopped")
          assert server.returncode == 0 and not os.path.exists("pid"), server.returncode
          # The next one finds an old one.
          open("pid.new", "w").write("4194304\\n"); os.rename("pid.new", "pid")
      assert seen == 10
      assert not [name for name in os.listdir(".") if name.endswith(".pid")], os.listdir(".")
      """
    let outcome = try place.run(
      [
        "python3", "-c", script, "vnvram-swtpm", "socket", "--tpm2", "--tpmstate",
        "backend-uri=vnvram://\(place.image)",
      ]
        + ["--ctrl", "type=unixio,path=tpm.ctrl", "--pid", "file=pid"])
    #expect(outcome.status == 0, "\(outcome.text)")
  }
}
