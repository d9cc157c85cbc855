import Foundation
import TestSupport
import Testing

/// What people meet at a terminal: a passphrase that isn't echoed, a recovery key that is shown once.
struct TerminalTests {
  /// Runs a command at a terminal of its own, types each line when its prompt has appeared, and prints what the
  /// terminal showed. Python has pseudo-terminals in its library.
  private static let driver = """
    import os, pty, sys
    lines = sys.argv[1].split("|") if sys.argv[1] else []
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp(sys.argv[2], sys.argv[2:])
    shown = b""
    seen = 0
    while True:
        try:
            piece = os.read(terminal, 4096)
        except OSError:
            break
        if not piece:
            break
        shown += piece
        if lines and (shown[seen:].endswith(b": ")):
            seen = len(shown)
            os.write(terminal, lines.pop(0).encode("latin-1").replace(b"^C", b"\\x03").replace(b"^H", b"\\x7f") + b"\\n")
    sys.stdout.buffer.write(shown)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    """

  private func atTerminal(_ workspace: Workspace, typing lines: String, _ arguments: String...) throws -> Child.Outcome
  {
    try Child(["python3", "-c", Self.driver, lines] + arguments, in: workspace.folder).outcome()
  }

  @Test("a passphrase is asked for without echo") func passphrase() throws {
    let workspace = try Workspace()
    try workspace.makeImage()
    let added = try atTerminal(
      workspace, typing: "horse|horse", "vnvram", "slot", "add", "a.img", "--passphrase", "--name", "office")
    #expect(added.status == 0, "\(added.text)")
    #expect(added.text.contains("New passphrase: ") && added.text.contains("The same again: "))
    #expect(added.text.contains("horse") == false)
    let right = try atTerminal(workspace, typing: "hox^Hrse", "vnvram", "ls", "a.img", "--passphrase")
    #expect(right.status == 0 && right.text.contains("one"), "\(right.text)")
    let wrong = try atTerminal(workspace, typing: "house", "vnvram", "ls", "a.img", "--passphrase")
    #expect(wrong.status == 4, "\(wrong.text)")
    let differing = try atTerminal(
      workspace, typing: "horse|house", "vnvram", "slot", "add", "a.img", "--passphrase", "--name", "other")
    #expect(differing.status == 2, "\(differing.text)")
    let interrupted = try atTerminal(workspace, typing: "ho^C", "vnvram", "ls", "a.img", "--passphrase")
    #expect(interrupted.status == 11, "\(interrupted.text)")
  }

  @Test("a recovery key is shown on the terminal, and opens the image") func recoveryKey() throws {
    let workspace = try Workspace()
    try workspace.makeImage()
    let formatted = try atTerminal(
      workspace, typing: "", "vnvram", "format", "b.img", "--key", workspace.key, "--entry", "x=10", "--recovery-key")
    #expect(formatted.status == 0, "\(formatted.text)")
    let pattern = "[0-9a-f]{8}(-[0-9a-f]{8}){7}-[0-9a-f]{4}"
    let range = try #require(formatted.text.range(of: pattern, options: .regularExpression))
    let key = String(formatted.text[range])
    try File.write(Array(key.utf8), to: workspace.path("recovery"))
    #expect(try workspace.run("ls", "b.img", "--recovery-key-fd", "0", input: workspace.path("recovery")).status == 0)
  }

  @Test("a rollback is accepted by a person") func rollback() throws {
    let workspace = try Workspace()
    try workspace.makeImage("a.img", "--entry", "one=100", "--anchor", "a.anchor")
    let command = ["accept-rollback", "old.img", "--anchor", "a.anchor"]
    try #require(
      try workspace.shell("cp a.img old.img; cp a.img copy.img; printf x | vnvram put a.img one --anchor a.anchor")
        .status
        == 0)
    for answer in ["no", "", "YES", "yes please"] {
      let refused = try atTerminal(
        workspace, typing: answer.isEmpty ? "|" : answer, "vnvram", command[0], command[1], command[2], command[3])
      #expect(refused.status == 15 && refused.text.contains("nothing was changed"), "\(refused.text)")
      #expect(refused.text.contains("generation 0") && refused.text.contains("generation 1"), "\(refused.text)")
      #expect(try File.bytes(workspace.path("old.img")) == File.bytes(workspace.path("copy.img")))
    }
    #expect(try workspace.shell("grep rollback-accepted audit.jsonl").status == 1)
    let accepted = try atTerminal(workspace, typing: "yes", "vnvram", command[0], command[1], command[2], command[3])
    #expect(accepted.status == 0 && accepted.text.contains("accepted at generation 0"), "\(accepted.text)")
    #expect(try workspace.shell("grep -c rollback-accepted audit.jsonl").text == "1\n")
    #expect(try workspace.run("ls", "old.img", "--anchor", "a.anchor").status == 0)
    #expect(try workspace.run("ls", "a.img", "--anchor", "a.anchor").status == 7)
  }

  @Test("a newer backup, or image, gives way to an older one after a word") func backwards() throws {
    let workspace = try Workspace()
    try workspace.makeImage()
    let made = try workspace.shell(
      "cp a.img old.img; printf x | vnvram put a.img one; vnvram backup a.img a.backup >/dev/null; cp a.backup copy")
    try #require(made.status == 0, "\(made.text)")
    func ask(_ answer: String, _ arguments: String...) throws -> Child.Outcome {
      try Child(
        ["python3", "-c", Self.driver, answer, "vnvram"] + arguments, in: workspace.folder
      ).outcome()
    }
    for answer in ["no", "|", "YES"] {
      let refused = try ask(answer, "backup", "old.img", "a.backup", "--force")
      #expect(refused.status == 15 && refused.text.contains("nothing was changed"), "\(refused.text)")
      #expect(refused.text.contains("generation 0") && refused.text.contains("generation 1"), "\(refused.text)")
      #expect(try File.bytes(workspace.path("a.backup")) == File.bytes(workspace.path("copy")))
    }
    let replaced = try ask("yes", "backup", "old.img", "a.backup", "--force")
    #expect(replaced.status == 0, "\(replaced.text)")
    #expect(try workspace.shell("vnvram get a.backup one").text.isEmpty)
    // And so it is with an image that has come further.
    let before = try File.bytes(workspace.path("a.img"))
    let kept = try ask("no", "restore", "a.backup", "a.img", "--force")
    #expect(kept.status == 15 && kept.text.contains("generation 1"), "\(kept.text)")
    #expect(try File.bytes(workspace.path("a.img")) == before)
    #expect(try ask("yes", "restore", "a.backup", "a.img", "--force").status == 0)
    #expect(try workspace.shell("vnvram get a.img one").text.isEmpty)
  }

  @Test("binary content doesn't reach a terminal unasked") func binary() throws {
    let workspace = try Workspace()
    try workspace.makeImage()
    try #require(try workspace.shell("printf content | vnvram put a.img one").status == 0)
    #expect(try atTerminal(workspace, typing: "", "vnvram", "get", "a.img", "one").status == 15)
    #expect(try atTerminal(workspace, typing: "", "vnvram", "dump", "a.img", "--der").status == 15)
    let insisted = try atTerminal(workspace, typing: "", "vnvram", "get", "a.img", "one", "-o", "-")
    #expect(insisted.status == 0 && insisted.text == "content")
  }
}
