import Foundation
import TestSupport
import Testing

/// Through the program: an anchor that fails before anything is written, and one that fails when the change is durable.
struct AnchorFailureTests {
  /// The first write to an anchor's file shows that it can be written, the second is the opening's, then come those of
  /// the change and of the close. `strace` makes them fail.
  private func failing(_ workspace: Workspace, from call: Int, error: String = "ENOSPC", _ command: [String]) throws
    -> Child.Outcome
  {
    try Child(
      [
        "strace", "-f", "-qq", "-o", "/dev/null", "-P", workspace.path("a.anchor"), "-e",
        "inject=pwrite64:error=\(error):when=\(call)+", "vnvram",
      ] + command + ["--anchor", workspace.path("a.anchor"), "--json"], in: workspace.folder
    ).outcome()
  }

  private func workspace() throws -> Workspace {
    let workspace = try Workspace()
    try workspace.makeImage("a.img", "--entry", "one=100", "--anchor", workspace.path("a.anchor"))
    for name in ["spare", "other"] {
      let made = try workspace.shell(
        "printf 'horse-\(name)' | vnvram slot add a.img --passphrase-fd 0 --name \(name) --anchor $PWD/a.anchor")
      try #require(made.status == 0, "\(made.text)")
    }
    return workspace
  }

  private func error(_ outcome: Child.Outcome) throws -> [String: Any] {
    try #require(try Workspace.json(outcome)["error"] as? [String: Any])
  }

  private func slots(_ workspace: Workspace) throws -> String { try workspace.run("slot", "list", "a.img").text }

  @Test(
    "a full disk, and a failing one, before anything is written",
    arguments: [("ENOSPC", 10), ("EIO", 11)] as [(String, Int32)])
  func before(error name: String, status: Int32) throws {
    let workspace = try workspace()
    let before = try File.bytes(workspace.path("a.img"))
    let outcome = try failing(workspace, from: 1, error: name, ["slot", "remove", "a.img", "spare"])
    #expect(outcome.status == status, "\(outcome.text)\(outcome.errorText)")
    #expect(try error(outcome)["durable"] == nil)
    #expect(try File.bytes(workspace.path("a.img")) == before)
    #expect(try workspace.run("slot", "remove", "a.img", "spare", "--anchor", workspace.path("a.anchor")).status == 0)
  }

  @Test("a slot is gone, and the anchor doesn't know", arguments: [("ENOSPC", 10), ("EIO", 11)] as [(String, Int32)])
  func slotRemove(error name: String, status: Int32) throws {
    let workspace = try workspace()
    let outcome = try failing(workspace, from: 3, error: name, ["slot", "remove", "a.img", "spare"])
    #expect(outcome.status == status, "\(outcome.text)")
    let error = try error(outcome)
    #expect(error["durable"] as? Bool == true)
    let message = error["message"] as? String ?? ""
    #expect(message.contains("has the slot \"spare\" no more, durably; but its anchor"), "\(message)")
    #expect(outcome.errorText.contains(message))
    #expect(try !slots(workspace).contains("spare"))
    #expect(try workspace.shell("grep -c '\"event\":\"removed\"' audit.jsonl").text == "1\n", "it is recorded")
    // Closed cleanly all the same, and the next opening brings the anchor up to date.
    let status = try workspace.run("status", "a.img", "--anchor", workspace.path("a.anchor"))
    #expect(status.status == 0 && status.text.contains("closed cleanly"), "\(status.text)")
  }

  @Test("an anchor that fails once is told at the close") func once() throws {
    let workspace = try workspace()
    let outcome = try Child(
      [
        "strace", "-f", "-qq", "-o", "/dev/null", "-P", workspace.path("a.anchor"), "-e",
        "inject=pwrite64:error=EIO:when=3", "vnvram", "slot", "remove", "a.img", "spare", "--anchor",
        workspace.path("a.anchor"),
      ], in: workspace.folder
    ).outcome()
    #expect(outcome.status == 0, "\(outcome.errorText)")
    let status = try workspace.run("status", "a.img", "--anchor", workspace.path("a.anchor"))
    #expect(status.text.contains("current: its anchor"), "\(status.text)")
  }

  @Test("other changes say it, too") func others() throws {
    for (command, words) in [
      (["scrub", "a.img"], "was scrubbed, durably"),
      (["entry", "resize", "a.img", "one=200"], "was closed cleanly, durably"),
      (["entry", "add", "a.img", "two=100"], "was closed cleanly, durably"),
      (["slot", "add", "a.img", "--passphrase-fd", "0", "--name", "new"], "has the slot \"new\" now, durably"),
    ] {
      let workspace = try workspace()
      try #require(try workspace.shell("printf secret > secret").status == 0)
      let outcome = try Child(
        [
          "bash", "-c",
          "exec strace -f -qq -o /dev/null -P $PWD/a.anchor -e inject=pwrite64:error=ENOSPC:when=3+ "
            + "vnvram \"$@\" < secret",
          "_",
        ] + command + ["--anchor", workspace.path("a.anchor"), "--json"], in: workspace.folder
      ).outcome()
      #expect(outcome.status == 10, "\(outcome.text)\(outcome.errorText)")
      let error = try error(outcome)
      #expect(error["durable"] as? Bool == true, "\(command)")
      #expect((error["message"] as? String)?.contains(words) == true, "\(error)")
      let status = try workspace.run("status", "a.img", "--anchor", workspace.path("a.anchor"))
      #expect(status.status == 0 && status.text.contains("closed cleanly"), "\(status.text)")
    }
  }

  @Test("an acceptance that the anchor doesn't know of") func acceptance() throws {
    let workspace = try workspace()
    try #require(
      try workspace.shell("cp a.img old.img; printf x | vnvram put a.img one --anchor $PWD/a.anchor").status == 0)
    let outcome = try failing(workspace, from: 1, error: "EIO", ["accept-rollback", "old.img", "--yes"])
    #expect(outcome.status == 11, "\(outcome.text)\(outcome.errorText)")
    let error = try error(outcome)
    #expect(error["durable"] as? Bool == true)
    #expect((error["message"] as? String)?.contains("was given generation 10") == true, "\(error)")
    #expect(
      try workspace.run("accept-rollback", "old.img", "--yes", "--anchor", workspace.path("a.anchor")).status == 0)
  }

  /// The file's mode keeps an unprivileged user from writing it: nothing of the image is changed.
  @Test("an anchor that may only be read", .enabled(if: geteuid() == 0)) func readOnly() throws {
    let workspace = try workspace()
    let script = """
      chmod 755 . && chown 65534 a.img a.anchor && chmod 400 a.anchor && cp a.img before
      : > audit && chown 65534 audit
      printf horse-spare | VNVRAM_AUDIT_LOG=$PWD/audit setpriv --reuid 65534 --clear-groups \\
        "$(command -v vnvram)" slot remove a.img other --passphrase-fd 0 --anchor $PWD/a.anchor
      echo "status $?"; cmp a.img before
      """
    let outcome = try workspace.shell(script)
    #expect(outcome.text.contains("a.anchor") && outcome.text.contains("Permission denied"), "\(outcome.text)")
    #expect(outcome.text.contains("status 11") && !outcome.text.contains("differ"), "\(outcome.text)")
  }
}
