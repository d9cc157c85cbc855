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

  /// SECURITY.md lists what the filter allows, and nothing else.
  @Test func documented() throws {
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../..")
    let text = try String(contentsOf: root.appendingPathComponent("SECURITY.md"), encoding: .utf8)
    for (title, list) in [
      ("allowed", SystemCallFilter.allowed), ("for some arguments", SystemCallFilter.conditional),
      ("answered with ENOSYS", SystemCallFilter.absent),
    ] {
      let start = try #require(text.range(of: "```text \(title)\n")).upperBound
      let end = try #require(text.range(of: "```", range: start..<text.endIndex)).lowerBound
      let names = text[start..<end].split(whereSeparator: \.isWhitespace).map(String.init)
      #expect(names == list.sorted())
      #expect(Set(list).count == list.count)
    }
  }
}
