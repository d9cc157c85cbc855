import Foundation
import TestSupport
import Testing

/// How the server begins and ends.
@Suite struct ServerTests {
  @Test(arguments: [SIGTERM, SIGINT]) func endsOnASignal(number: Int32) throws {
    let directory = try TestDirectory()
    let server = try TestServer(directory, ["--flags", "startup-clear,disable-auto-shutdown"])
    let data = try Socket(server, .data)
    #expect(data.ask(StoreFaultTests.define(0)).hasPrefix("8002"))
    let permall = try #require(directory.read("state/permall"))
    server.signal(number)
    #expect(server.wait() == 0)
    #expect(directory.names == ["log", "state", "work"])
    #expect(directory.read("state/permall") == permall, "nothing was stored at the end")
    #expect(directory.read("state/volatilestate") == nil)
  }

  @Test func terminatesWhenTheClientLeaves() throws {
    let ending = try TestServer(TestDirectory(), ["--terminate"])
    // Whoever looks in at the control channel ends nothing: as with swtpm.
    for _ in 0..<3 { #expect(try Socket(ending, .control).ask("0000000e") == "00000000") }
    #expect(ending.isRunning)
    do { _ = try Socket(ending, .data).ask("80010000000a00000181") }
    #expect(ending.wait() == 0)
  }

  @Test func terminatesWhenTheControlClientLeaves() throws {
    let directory = try TestDirectory()
    let server = try Child(
      [
        Tool.builtProduct("VTPMTestServer"), "--state", directory.path, "--ctrl",
        "type=unixio,path=\(directory.path)/ctrl,terminate",
      ], in: directory.path, merged: true, output: "\(directory.path)/log")
    while server.isRunning, (try? Socket(path: "\(directory.path)/ctrl")) == nil { usleep(2000) }
    #expect(server.wait() == 0)
  }

  /// Who looks in while the machine is there ends nothing by leaving.
  @Test func terminatesWhenTheLastClientLeaves() throws {
    let directory = try TestDirectory()
    let path = "\(directory.path)/ctrl"
    let server = try Child(
      [Tool.builtProduct("VTPMTestServer"), "--state", directory.path, "--ctrl", "type=unixio,path=\(path),terminate"],
      in: directory.path, merged: true, output: "\(directory.path)/log")
    var machine: Socket?
    while server.isRunning, machine == nil {
      machine = try? Socket(path: path)
      usleep(2000)
    }
    for _ in 0..<3 { #expect(try Socket(path: path).ask("0000000f") == "0000000000000000") }
    #expect(machine?.ask("0000000f") == "0000000000000000")
    machine = nil
    #expect(server.wait() == 0)
  }

  /// As well where it is the server that hangs up: on a message that doesn't become complete.
  @Test func terminatesWhenItHangsUp() throws {
    let directory = try TestDirectory()
    let server = try Child(
      [
        Tool.builtProduct("VTPMTestServer"), "--state", directory.path, "--ctrl",
        "type=unixio,path=\(directory.path)/ctrl,terminate",
      ], in: directory.path, merged: true, output: "\(directory.path)/log")
    var client: Socket?
    while server.isRunning, client == nil {
      client = try? Socket(path: "\(directory.path)/ctrl")
      usleep(2000)
    }
    client?.send([0])
    for _ in 0..<200 where server.isRunning { usleep(20_000) }
    server.signal(SIGKILL)
    #expect(server.wait() == 0)
  }

  /// The socket has the mode and owner that were asked for, whatever the umask is.
  @Test(.enabled(if: geteuid() == 0)) func modeAndOwner() throws {
    let directory = try TestDirectory()
    let path = "\(directory.path)/ctrl"
    let server = try Child(
      [
        Tool.builtProduct("VTPMTestServer"), "--state", directory.path, "--ctrl",
        "type=unixio,path=\(path),mode=0662,uid=65534,gid=65533",
      ], in: directory.path, merged: true, output: "\(directory.path)/log")
    while server.isRunning, (try? Socket(path: path)) == nil { usleep(2000) }
    var info = stat()
    #expect(unsafe lstat(path, &info) == 0 && info.st_mode == S_IFSOCK | 0o662)
    #expect(info.st_uid == 65534 && info.st_gid == 65533)
    server.signal(SIGTERM)
    #expect(server.wait() == 0)
  }

  @Test func socketsOfADeadServerAreReplaced() throws {
    let directory = try TestDirectory()
    let first = try TestServer(directory)
    let mode = try FileManager.default.attributesOfItem(atPath: first.controlPath)[.posixPermissions] as? Int
    #expect(mode == 0o600)
    first.kill()
    #expect(FileManager.default.fileExists(atPath: first.controlPath))
    let second = try TestServer(directory)
    // A living server's are not.
    let third = try Child(
      [
        Tool.builtProduct("VTPMTestServer"), "--state", second.statePath, "--ctrl",
        "type=unixio,path=\(second.controlPath)",
      ], in: directory.path, merged: true, output: "\(directory.path)/log")
    #expect(third.wait() == 9)
    #expect(second.log.contains("in use by another process"))
    #expect(try Socket(second, .control).ask("0000000e") == "00000000")
  }

  @Test func otherFilesAreNotReplaced() throws {
    let directory = try TestDirectory()
    try directory.write("precious", "file")
    let server = try Child(
      [
        Tool.builtProduct("VTPMTestServer"), "--state", directory.path, "--ctrl",
        "type=unixio,path=\(directory.path)/file",
      ], in: directory.path, merged: true, output: "\(directory.path)/log")
    #expect(server.wait() == 15)
    #expect(directory.read("file") == Array("precious".utf8))
  }

  @Test(arguments: [
    [], ["--ctrl", "type=tcp,port=0"], ["--ctrl", "type=tcp,port=1,bindaddr=localhost"], ["--flags", "no"],
    ["--ctrl", "type=unixio,path=/tmp/x", "--key-timeout", "-1"],
  ]) func wrongUsage(arguments: [String]) throws {
    let directory = try TestDirectory()
    let server = try Child(
      [Tool.builtProduct("VTPMTestServer"), "--state", directory.path] + arguments, in: directory.path,
      merged: true, output: "\(directory.path)/log")
    #expect(server.wait() == 2)
  }
}
