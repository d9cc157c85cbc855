import Foundation
import TestSupport
import Testing

/// Without a record of it no key is used.
@Suite struct AuditTests {
  @Test(arguments: ["yes", "no"]) func cannotBeWritten(wait: String) throws {
    let place = try Place()
    let before = try place.bytes()
    let arguments = TestServer.startsByItself + ["--fail-on-encrypted-drive=\(wait)"]
    // What is no file, and a place where no file can be.
    for audit in ["/dev/full", place.folder] {
      let outcome = try place.runServer(arguments + ["--audit", audit])
      #expect(outcome.status == 12, "\(outcome.text)")
      #expect(outcome.text.contains(audit), "\(outcome.text)")
      #expect(try place.bytes() == before, "the key was not used")
    }
    let outcome = try place.run(
      TestServer.command(place.image, TestServer.unixSockets(place.folder), arguments),
      environment: ["VNVRAM_AUDIT_LOG": "/dev/full"])
    #expect(outcome.status == 12, "\(outcome.text)")
    #expect(try place.bytes() == before)
  }

  /// As on a full disk: the file opens, and takes nothing.
  @Test func noRoom() throws {
    let place = try Place()
    let before = try place.bytes()
    let outcome = try place.runServer(
      TestServer.startsByItself, through: ["bash", "-c", "ulimit -f 0; exec \"$@\"", "-"])
    // A limit on file sizes is for its messages, too, which are in a file here: its status has to do.
    #expect(outcome.status == 12, "\(outcome.text)")
    #expect(try place.bytes() == before, "the key was not used")
  }

  /// A record that anybody could have planted a file for, or take away.
  @Test func notThroughALink() throws {
    let place = try Place()
    let before = try place.bytes()
    try place.write(Array("precious\n".utf8), "audit-victim")
    try FileManager.default.createSymbolicLink(atPath: place.path("audit-link"), withDestinationPath: "audit-victim")
    try FileManager.default.createDirectory(
      atPath: place.path("audit-open"), withIntermediateDirectories: false, attributes: [.posixPermissions: 0o777])
    _ = unsafe mkfifo(place.path("audit-open/fifo"), 0o600)
    for audit in ["audit-link", "audit-open/fifo", "audit-open/new"] {
      let outcome = try place.runServer(TestServer.startsByItself + ["--audit", place.path(audit)])
      #expect(outcome.status == 12 && outcome.text.contains("without it no key is used"), "\(outcome.text)")
    }
    #expect(try place.bytes() == before, "the key was not used")
    #expect(try String(decoding: place.bytes("audit-victim"), as: UTF8.self) == "precious\n")
  }

  /// Each record says for what, by which subcommand, and since which start of the host; of an image that was named from
  /// where it lies, too.
  @Test func whereAndBywhat() throws {
    let place = try Place()
    #expect(
      try place.run(["vnvram", "slot", "add", "tpm.vnvram", "--recovery-key", "--recovery-key-fd", "1"]).status == 0)
    #expect(try place.run(["vnvram", "ls", "tpm.vnvram"]).status == 0)
    let server = try TestServer(place)
    #expect(server.end() == 0)
    let boot = try String(contentsOfFile: "/proc/sys/kernel/random/boot_id", encoding: .utf8).dropLast()
    let lines = try String(decoding: place.bytes("audit.jsonl"), as: UTF8.self).split(separator: "\n")
    #expect(lines.allSatisfy { $0.contains("\"store\":\"\(place.image)\"") && $0.contains("\"boot_id\":\"\(boot)\"") })
    for (subcommand, access) in [("format", "write"), ("slot add", "write"), ("ls", "read"), ("socket", "write")] {
      let those = lines.filter { $0.hasSuffix("\"subcommand\":\"\(subcommand)\"}") }
      #expect(those.contains { $0.contains("\"access\":\"\(access)\"") }, "\(subcommand): \(lines)")
    }
  }

  /// That nothing is recorded is said where one looks.
  @Test func noneIsSaid() throws {
    let place = try Place()
    let server = try TestServer(place, TestServer.startsByItself + ["--audit", "none"])
    #expect(server.end() == 0)
    #expect(server.log.contains("uses of keys are not recorded, as --audit none says"), "\(server.log)")
    let usual = try TestServer(place)
    #expect(usual.end() == 0)
    #expect(!usual.log.contains("not recorded"), "\(usual.log)")
  }

  /// A key that comes when the log can't be written any more is not used, until it can.
  @Test func fullWhileItWaits() throws {
    let place = try Place()
    place.key.remove()
    let before = try place.bytes()
    let audit = place.path("audit-of-this-test")
    let server = try TestServer(
      place, TestServer.startsByItself + ["--fail-on-encrypted-drive=no", "--audit", audit])
    try FileManager.default.removeItem(atPath: audit)
    try FileManager.default.createDirectory(atPath: audit, withIntermediateDirectories: false)
    place.key.load()
    try server.waitUntilLogged("without it no key is used")
    #expect(try place.bytes() == before)
    #expect(server.isRunning)
    try FileManager.default.removeItem(atPath: audit)
    try server.connect(.data).run(TPMCommand.getRandom)
    #expect(server.end() == 0)
  }

  @Test func recordsWhatHappened() throws {
    let place = try Place()
    place.key.remove()
    // At the start, and for an INIT.
    #expect(try place.runServer().status == 3)
    place.key.load()
    let server = try TestServer(place)
    #expect(server.end() == 0)
    let lines = try String(decoding: place.bytes("audit.jsonl"), as: UTF8.self).split(separator: "\n")
    let events = lines.filter { $0.contains("vnvram-swtpm\"") }.compactMap { line in
      line.firstRange(of: "\"event\":\"").map { line[$0.upperBound...].prefix { $0 != "\"" } }
    }
    #expect(
      events == ["asked-for", "missing", "repeated", "asked-for", "found", "unwrapped", "started", "ended"], "\(lines)")
    #expect(lines.allSatisfy { $0.contains(place.key.name) })
  }
}
