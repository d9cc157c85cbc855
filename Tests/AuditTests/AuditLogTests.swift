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
  }

  /// What others planted, or may change, is not written to; and neither is what it leads to.
  @Test func nothingThatOthersHaveASayIn() throws {
    defer { end() }
    let victim = directory + "/victim"
    try Data("precious\n".utf8).write(to: URL(fileURLWithPath: victim))
    let made =
      unsafe symlink(victim, directory + "/link") == 0 && symlink("absent", directory + "/dangling") == 0
      && mkfifo(directory + "/fifo", 0o600) == 0 && link(victim, directory + "/hard") == 0
    try #require(made)
    for (name, mode) in [("group", 0o620), ("world", 0o602)] {
      try Data().write(to: URL(fileURLWithPath: directory + "/" + name))
      _ = unsafe chmod(directory + "/" + name, mode_t(mode))
    }
    for (name, mode) in [("open", 0o777), ("shared", 0o770), ("above", 0o777)] {
      try FileManager.default.createDirectory(atPath: "\(directory)/\(name)/own", withIntermediateDirectories: true)
      _ = unsafe chmod(directory + "/" + name, mode_t(mode))
    }
    let refused =
      [
        "link", "dangling", "fifo", "hard", "victim", "group", "world", "open/log", "shared/log", "above/own/log",
        "above/new/log",
      ].map { "\(directory)/\($0)" } + ["/dev/null", "/dev/full"]
    for path in refused {
      #expect {
        try AuditLog(.file(path)).record(AuditRecord(.found))
      } throws: {
        ($0 as? AuditError)?.code == .notTrusted && "\($0)".hasPrefix(path + ": ")
          && "\($0)".hasSuffix("without it no key is used")
      }
    }
    #expect(try String(contentsOfFile: victim, encoding: .utf8) == "precious\n")
    for name in ["absent", "open/log", "shared/log", "above/own/log", "above/new"] {
      #expect(!FileManager.default.fileExists(atPath: "\(directory)/\(name)"), "\(name)")
    }
  }

  /// Folders that nobody else can replace the file in: a sticky one, one below a group's, one behind a link of one's
  /// own.
  @Test func foldersThatDo() throws {
    defer { end() }
    for (name, mode) in [("sticky", 0o1777), ("group", 0o770), ("group/own", 0o700)] {
      try FileManager.default.createDirectory(atPath: "\(directory)/\(name)", withIntermediateDirectories: true)
      _ = unsafe chmod("\(directory)/\(name)", mode_t(mode))
    }
    _ = unsafe symlink("group/../group/./own", directory + "/link")
    for name in ["sticky/log", "group/own/log", "link/linked", "link/../own/back"] {
      try AuditLog(.file("\(directory)/\(name)")).record(AuditRecord(.found))
      #expect(try lines("\(directory)/\(name)").count == 1)
    }
    // As logrotate leaves it for a group that reads.
    _ = unsafe chmod("\(directory)/sticky/log", 0o640)
    try AuditLog(.file("\(directory)/sticky/log")).record(AuditRecord(.found))
  }

  @Test(.enabled(if: geteuid() == 0)) func foreignOwners() throws {
    defer { end() }
    for name in ["theirs", "link", "own"] {
      try FileManager.default.createDirectory(atPath: "\(directory)/\(name)", withIntermediateDirectories: true)
    }
    try Data().write(to: URL(fileURLWithPath: directory + "/file"))
    let given =
      unsafe symlink("../own", directory + "/link/own") == 0 && chown(directory + "/theirs", 65534, 0) == 0
      && lchown(directory + "/link/own", 65534, 0) == 0 && chown(directory + "/file", 65534, 0) == 0
    try #require(given)
    for name in ["theirs/log", "link/own/log", "file"] {
      #expect {
        try AuditLog(.file("\(directory)/\(name)")).record(AuditRecord(.found))
      } throws: { "\($0)".contains("belongs to user 65534") }
    }
    #expect(try FileManager.default.contentsOfDirectory(atPath: directory + "/own").isEmpty)
  }

  /// What tells records of several starts, people and programs apart.
  @Test func whoAndWhere() throws {
    defer { end() }
    let path = directory + "/audit.jsonl"
    let log = AuditLog(.file(path), subcommand: "slot add")
    try log.record(AuditRecord(.found, store: "images/a", access: .write))
    try log.record(AuditRecord(.found, store: "/images/a", access: .read))
    let lines = try lines(path)
    #expect(lines[0]["store"] as? String == FileManager.default.currentDirectoryPath + "/images/a")
    #expect(lines[1]["store"] as? String == "/images/a")
    #expect(lines.map { $0["access"] as? String } == ["write", "read"])
    #expect(lines[0]["subcommand"] as? String == "slot add")
    func kernel(_ path: String) -> String? {
      (try? String(contentsOfFile: path, encoding: .utf8))?.trimmingCharacters(in: .whitespacesAndNewlines)
    }
    #expect(lines[0]["boot_id"] as? String == kernel("/proc/sys/kernel/random/boot_id"))
    let login = kernel("/proc/self/loginuid").flatMap { Int($0) }
    #expect(lines[0]["login_uid"] as? Int == (login == Int(UInt32.max) ? nil : login))
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
        "asked-for", "found", "missing", "denied", "expired", "revoked", "wrong", "unwrapped", "compared",
        "repeated", "added", "removed", "started", "image-refused", "locked", "ended", "exported", "formatted",
        "rollback-accepted", "backed-up", "converted", "restored", "marker-forgotten",
        "imported",
      ])
  }
}
