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
}
