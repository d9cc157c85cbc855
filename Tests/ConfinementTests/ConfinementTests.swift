import Foundation
import TestSupport
import Testing

@testable import Confinement

/// What a confined process can't do, tried by one.
@Suite struct ConfinementTests {
  private let probe: Probe

  init() throws { probe = try Probe() }

  /// The filter takes nothing from a process that has what it needs.
  @Test func whatIsNeededWorks() throws {
    #expect(try probe.attempt("read", probe.path("own/file")) == .done)
    #expect(try probe.attempt("write", probe.path("own/file")) == .done)
    #expect(try probe.attempt("make", probe.path("own/new")) == .done)
    #expect(try probe.attempt("list", probe.path("own")) == .done)
    #expect(try probe.attempt("remove", probe.path("own/new")) == .done)
    #expect(try probe.attempt("thread") == .done)
  }

  @Test(.enabled(if: Landlock.version != nil)) func otherFiles() throws {
    for action in ["kill", "none"] {
      for (attempt, name) in [
        ("read", "other"), ("write", "other"), ("make", "new"), ("remove", "other"), ("list", ""),
      ] {
        let outcome = try probe.attempt(attempt, probe.path(name), action: action)
        #expect(outcome.text.hasSuffix("error \(EACCES)\n"), "\(attempt) under \(action): \(outcome)")
      }
      let outcome = try probe.attempt("read", "/etc/passwd", action: action)
      #expect(outcome.text.hasSuffix("error \(EACCES)\n"), "\(outcome)")
    }
    // Not even where files may be made.
    #expect(try probe.attempt("directory", probe.path("own/directory")) == .error(EACCES))
    #expect(FileManager.default.fileExists(atPath: probe.path("other")))
  }

  @Test func network() throws {
    for attempt in ["socket", "bind", "connect"] { #expect(try probe.attempt(attempt) == .killed) }
  }

  /// landlock alone.
  @Test(.enabled(if: Landlock.version.map { $0 >= 4 } ?? false)) func networkWithoutTheFilter() throws {
    for attempt in ["bind", "connect"] {
      #expect(try probe.attempt(attempt, action: "none").text.hasSuffix("error \(EACCES)\n"))
    }
  }

  @Test func otherPrograms() throws {
    #expect(try probe.attempt("execute", "/bin/true") == .killed)
    #expect(try probe.attempt("fork") == .killed)
    #expect(try probe.attempt("code") == .killed)
  }

  @Test(.enabled(if: Landlock.version != nil)) func otherProgramsWithoutTheFilter() throws {
    #expect(try probe.attempt("execute", "/bin/true", action: "none").text.hasSuffix("error \(EACCES)\n"))
  }

  @Test func otherProcesses() throws {
    #expect(try probe.attempt("signal", "\(getpid())") == .killed)
  }

  /// `log` lets everything through that landlock does.
  @Test func logging() throws { #expect(try probe.attempt("socket", action: "log") == .done) }

  @Test func asTheKernelSeesIt() throws {
    let status = try probe.attempt("status").text
    #expect(status.contains("NoNewPrivs:\t1\n") && status.contains("Seccomp:\t2\n"), "\(status)")
    #expect(try probe.attempt("status", action: "none").text.contains("Seccomp:\t0\n"))
  }

  @Test(.enabled(if: geteuid() == 0)) func anotherUser() throws {
    let nobody = try RunAs("nobody")
    #expect(try RunAs("\(nobody.user)") == nobody)
    let status = try probe.attempt("status", user: "nobody").text
    let (user, group) = ("\(nobody.user)", "\(nobody.group)")
    #expect(status.contains("Uid:\t\(user)\t\(user)\t\(user)\t\(user)\n"), "\(status)")
    #expect(status.contains("Gid:\t\(group)\t\(group)\t\(group)\t\(group)\n"), "\(status)")
    #expect(status.contains("Groups:\t\n") || status.contains("Groups:\t \n"), "\(status)")
    #expect(status.contains("CapEff:\t0000000000000000\n"), "\(status)")
    #expect(try probe.attempt("root", action: "none", user: "nobody").text.hasSuffix("error \(EPERM)\n"))
  }

  @Test func usersThatAreNone() {
    for name in ["", "no such user", "4294967295", "-1"] {
      #expect(throws: ConfinementError.self, "\(name)") { try RunAs(name) }
    }
  }

  /// A root that can't do what root can: all five sets.
  @Test(.enabled(if: geteuid() == 0), arguments: [("worker", 0), ("monitor", 1 << 1 | 1 << 3 | 1 << 5 | 1 << 14)])
  func capabilities(role: String, kept: UInt64) throws {
    let status = try statusFromOutside(role)
    let own = try String(contentsOfFile: "/proc/self/status", encoding: .utf8)
    func set(_ name: String, _ status: String) throws -> UInt64 {
      let line = try #require(status.split(separator: "\n").first { $0.hasPrefix(name + ":\t") })
      return try #require(UInt64(line.dropFirst(name.count + 2), radix: 16))
    }
    for name in ["CapPrm", "CapEff", "CapBnd"] {
      #expect(try set(name, status) == kept & set(name, own), "\(name): \(status)")
    }
    for name in ["CapInh", "CapAmb"] { #expect(try set(name, status) == 0, "\(name): \(status)") }
  }

  private func statusFromOutside(_ role: String) throws -> String {
    let child = try Child(
      ["ConfinementProbe", role, "kill", "-", probe.path("own"), "wait"], in: probe.folder, merged: true)
    defer { child.kill() }
    while child.isRunning, child.text != "ready\n" { usleep(1000) }
    return try String(contentsOfFile: "/proc/\(child.identifier)/status", encoding: .utf8)
  }

  /// Whatever was asked for, a worker reaches nothing by name, and libraries that try hear of it.
  @Test(arguments: ["kill", "log"]) func workersHaveNoPlaces(action: String) throws {
    for (attempt, name) in [("read", "own/file"), ("write", "own/file"), ("make", "own/new"), ("remove", "own/file")] {
      #expect(try probe.attempt(attempt, probe.path(name), role: "worker", action: action) == .error(EACCES))
    }
    #expect(try probe.attempt("thread", role: "worker") == .done)
  }

  @Test(arguments: ["close", "close one by one"]) func inheritedDescriptors(way: String) throws {
    #expect(try probe.attempt(way, role: "worker") == .done)
  }

  @Test func endsWithItsParent() throws {
    #expect(try probe.attempt("parent", role: "worker") == .done)
    #expect(try probe.attempt("another's child", role: "worker") == .error(ESRCH))
  }

  /// SECURITY.md lists what the filters allow, on which conditions, and nothing else.
  @Test func documented() throws {
    let table = try SecurityTable("| calls | worker | monitor | only | why |")
    let extras = SystemCallProfile.Extras(
      mayConnect: true, mayAskDevices: true, mayAllocate: true, mayRequestKeys: true, worker: 1)
    for (column, role) in [(1, Confinement.Role.worker), (2, .monitor)] {
      var listed: [String: String] = [:]
      for row in table.rows where row[column] != "no" {
        for name in SecurityTable.names(row[0]) {
          let condition = row[column] == "yes" ? row[3] : ""
          #expect(listed.updateValue("\(row[column]) \(condition)", forKey: name) == nil, "\(name) is in two rows")
        }
        #expect(row.count == 6 && !row[4].isEmpty && !row[5].isEmpty, "\(row)")
      }
      let rules = SystemCallProfile(role, extras).rules
      let made = Dictionary(rules.map { ($0.name, "\($0.answer.word) \($0.condition)") }, uniquingKeysWith: { $0 + $1 })
      #expect(listed == made)
    }
  }
}

extension SystemCallRule.Answer {
  fileprivate var word: String {
    switch self {
    case .allow: "yes"
    case .error(EACCES): "EACCES"
    case .error(ENOSYS): "ENOSYS"
    case .error(let code): "\(code)"
    }
  }
}
