import Audit
import Foundation
import Primitives
import Testing

/// The log as a file that other programs read.
struct AuditLogTests {
  /// A directory of its own for each test.
  let directory: String

  init() throws {
    directory = NSTemporaryDirectory() + "/vnvram-audit-\(UInt64.random(in: .min ... .max))"
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
  }

  private func lines(_ path: String) throws -> [[String: Any]] {
    try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n").map {
      try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
    }
  }

  private func end() { try? FileManager.default.removeItem(atPath: directory) }

  @Test func writesOneObjectALine() throws {
    defer { end() }
    let path = directory + "/deep/er/audit.jsonl"
    let log = AuditLog(.file(path))
    let uuid = StoreUUID(random: InlineBytes16(low: 1, high: 2))
    let name = "quote\" back\\slash\nnewline \u{1B}[31m \u{85} ü"
    try log.record(
      AuditRecord(
        .found, store: "/images/a", uuid: uuid, key: name, kind: "key", slot: 3, serial: 77, status: .wrongKey,
        detail: "why"))
    try log.record(AuditRecord(.askedFor))
    let lines = try lines(path)
    try #require(lines.count == 2)
    #expect(lines[0]["event"] as? String == "found")
    #expect(lines[0]["store"] as? String == "/images/a")
    #expect(lines[0]["uuid"] as? String == uuid.description)
    #expect(lines[0]["key"] as? String == name)
    #expect(lines[0]["slot"] as? Int == 3)
    #expect(lines[0]["serial"] as? Int == 77)
    #expect(lines[0]["status"] as? String == "wrong-key")
    #expect(lines[0]["detail"] as? String == "why")
    #expect(lines[0]["uid"] as? Int == Int(getuid()))
    #expect(lines[0]["pid"] as? Int == Int(getpid()))
    #expect((lines[0]["program"] as? String)?.hasPrefix("/") == true)
    #expect(lines[1]["event"] as? String == "asked-for")
    #expect(lines[1]["key"] == nil)
    let raw = try Data(contentsOf: URL(fileURLWithPath: path))
    #expect(!raw.contains(0x1B))
  }

  @Test func saysWhenInUTC() throws {
    defer { end() }
    let path = directory + "/audit.jsonl"
    let before = Date()
    try AuditLog(.file(path)).record(AuditRecord(.found))
    let text = try #require(try lines(path)[0]["time"] as? String)
    let format = ISO8601DateFormatter()
    format.formatOptions = [.withInternetDateTime, .withFractionalSeconds]
    let time = try #require(format.date(from: text))
    #expect(text.hasSuffix("Z") && text.count == 24)
    // Milliseconds are cut off, not rounded.
    #expect(time >= before.addingTimeInterval(-0.001) && time <= Date())
  }

  @Test func isForTheOwnerAlone() throws {
    defer { end() }
    let path = directory + "/new/audit.jsonl"
    try AuditLog(.file(path)).record(AuditRecord(.found))
    func mode(_ path: String) throws -> Int? {
      try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
    }
    #expect(try mode(path) == 0o600)
    #expect(try mode(directory + "/new") == 0o700)
  }

  @Test func beginsANewLineAfterATornOne() throws {
    defer { end() }
    let path = directory + "/audit.jsonl"
    try Data("{\"event\":\"fou".utf8).write(to: URL(fileURLWithPath: path))
    try AuditLog(.file(path)).record(AuditRecord(.missing))
    let lines = try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n")
    #expect(lines.count == 2 && lines[0] == "{\"event\":\"fou" && lines[1].contains("\"missing\""))
  }

  @Test func manyThreadsKeepTheirLinesApart() throws {
    defer { end() }
    let path = directory + "/audit.jsonl"
    let log = AuditLog(.file(path))
    let other = AuditLog(.file(path))
    DispatchQueue.concurrentPerform(iterations: 8) { thread in
      for i in 0..<20 {
        try? (i % 2 == 0 ? log : other).record(AuditRecord(.found, key: "k\(thread)", slot: i))
      }
    }
    let lines = try lines(path)
    #expect(lines.count == 160)
    #expect(Set(lines.map { "\($0["key"] ?? "") \($0["slot"] ?? "")" }).count == 160)
  }

  @Test func saysWhenItCannot() throws {
    defer { end() }
    for path in [directory, "/proc/vnvram/audit.jsonl", ""] {
      let log = AuditLog(.file(path))
      #expect {
        try log.record(AuditRecord(.found))
      } throws: { ($0 as? AuditError)?.status == .auditFailed }
      #expect(log.lost == 1)
      try AuditLog(.file(path), policy: .bestEffort).record(AuditRecord(.found))
    }
    // Opens, and takes nothing.
    #expect(throws: AuditError.self) { try AuditLog(.file("/dev/full")).record(AuditRecord(.found)) }
  }

  @Test func noneIsNone() throws {
    defer { end() }
    #expect(AuditDestination("none") == .none)
    #expect(AuditDestination("/a") == .file("/a"))
    let log = AuditLog(.none)
    try log.record(AuditRecord(.found))
    #expect(log.lost == 0)
  }

  @Test func eventsHaveStableNames() {
    #expect(
      AuditEvent.allCases.map(\.rawValue) == [
        "asked-for", "found", "missing", "denied", "expired", "revoked", "wrong", "unwrapped", "added", "removed",
        "locked", "exported", "formatted", "rollback-accepted", "backed-up", "restored", "imported",
      ])
  }
}
