import Foundation
import TestSupport
import Testing

/// Without a record of it no key is used.
@Suite struct AuditTests {
  @Test(arguments: ["yes", "no"]) func cannotBeWritten(wait: String) throws {
    let place = try Place()
    let before = try place.bytes()
    let arguments = TestServer.startsByItself + ["--fail-on-encrypted-drive=\(wait)"]
    // A full disk, and a place where no file can be.
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
    #expect(events == ["asked-for", "missing", "asked-for", "missing", "asked-for", "found", "unwrapped"], "\(lines)")
    #expect(lines.allSatisfy { $0.contains(place.key.name) })
  }
}
