import Foundation
import TestSupport
import Testing

/// The file of options, seen by where `--print-states` records the use of a key.
@Suite struct OptionsFileTests {
  private let place: Place

  init() throws { place = try Place() }

  private func write(_ text: String, mode: Int = 0o600) throws {
    try place.write(Array(text.utf8), "log.options")
    try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: place.path("log.options"))
  }

  private func run(_ more: [String] = [], options: String? = nil) throws -> Place.Outcome {
    let command = ["vnvram-swtpm", "socket", "--print-states", "--tpm2", "--tpmstate"]
    return try place.run(
      command + ["backend-uri=vnvram://\(place.image)"] + more,
      environment: ["VNVRAM_SWTPM_OPTIONS": options ?? place.path("log.options")])
  }

  private func wasRecorded(_ name: String) -> Bool { !((try? place.bytes(name)) ?? []).isEmpty }

  @Test func isRead() throws {
    try write(
      "# ours\n\n  --audit \(place.path("audit.file"))  \r\n\t# more\n--fail-on-encrypted-drive\n--key-timeout=5\n")
    let outcome = try run()
    #expect(outcome.status == 0, "\(outcome.text)")
    #expect(wasRecorded("audit.file"))
  }

  /// The command line has the last word.
  @Test func theCommandLineWins() throws {
    try write("--audit=\(place.path("audit.file"))\n--keyring-key other\n--seccomp action=none\n")
    #expect(try run(["--audit", place.path("audit.line")]).status == 0)
    #expect(wasRecorded("audit.line") && !wasRecorded("audit.file"))
    for none in ["", "none"] { #expect(try run(options: none).status == 0) }
    #expect(!wasRecorded("audit.file"))
  }

  /// Unless the file says `always`: then it may say the same, and nothing else.
  @Test func whatIsFixed() throws {
    let audit = place.path("audit.file")
    try write(
      "# ours\nalways --audit \(audit)\nalways\t--keyring-key=\(place.key.name)\nalways --upcall=no\n--key-timeout 5\n")
    #expect(try run(["--audit", audit, "--keyring-key", place.key.name, "--upcall=no", "--key-timeout=7"]).status == 0)
    #expect(wasRecorded("audit.file"))
    try place.write(Array(String(repeating: "ab", count: 32).utf8), "log.key")
    for (more, line) in [
      (["--audit", place.path("audit.line")], 2), (["--audit", "none"], 2), (["--keyring-key", "other"], 3),
      (["--key", "file=\(place.path("log.key"))"], 3), (["--upcall"], 4), (["--audit", audit, "--upcall=yes"], 4),
    ] {
      let outcome = try run(more)
      #expect(outcome.status == 15 && outcome.text.contains("log.options, line \(line): "), "\(more): \(outcome.text)")
    }
    #expect(!wasRecorded("audit.line"))
    try write("always --audit \(audit)\n--audit none\n")
    #expect(try run().status == 15, "not even in the file")
  }

  /// `--require-audit`: whoever says `none`.
  @Test func recordsAreRequired() throws {
    try write("# ours\n--require-audit\n")
    #expect(try run().status == 0)
    #expect(wasRecorded("audit.jsonl"))
    let none = try run(["--audit", "none"])
    #expect(none.status == 15 && none.text.contains("log.options, line 2: --require-audit: "), "\(none.text)")
    let command = [
      "vnvram-swtpm", "socket", "--print-states", "--tpm2", "--tpmstate", "backend-uri=vnvram://\(place.image)",
    ]
    let environment = try place.run(
      command, environment: ["VNVRAM_SWTPM_OPTIONS": place.path("log.options"), "VNVRAM_AUDIT_LOG": "none"])
    #expect(environment.status == 15 && environment.text.contains("VNVRAM_AUDIT_LOG=none"), "\(environment.text)")
    let line = try place.run(command + ["--require-audit", "--audit", "none"])
    #expect(line.status == 15, "\(line.text)")
    let server = try place.runServer(["--require-audit", "--audit", "none"])
    #expect(server.status == 15, "\(server.text)")
  }

  /// What the standard file fixes isn't lost by naming another one, or none.
  @Test(.enabled(if: geteuid() == 0 && LoopFileSystem.isPermitted)) func theStandardFileStays() throws {
    try write("--key-timeout 5\n")
    try place.run(["cp", "-a", "/etc", place.path("log.etc")])
    try place.run(["mkdir", "-p", place.path("log.etc/vnvram")])
    let audit = place.path("audit.file")
    try place.write(
      Array("always --audit \(audit)\n--keyring-key other\n".utf8), "log.etc/vnvram/vnvram-swtpm.options")
    let script = "mount --bind \"$1\" /etc && shift && exec \"$@\""
    let command = [
      "unshare", "--mount", "bash", "-c", script, "-", place.path("log.etc"), "vnvram-swtpm", "socket",
      "--print-states",
      "--tpm2", "--tpmstate", "backend-uri=vnvram://\(place.image)",
    ]
    for options in ["none", place.path("log.options")] {
      let environment = ["VNVRAM_SWTPM_OPTIONS": options, "VNVRAM_AUDIT_LOG": place.path("audit.other")]
      let outcome = try place.run(command, environment: environment)
      #expect(outcome.status == 0, "\(outcome.text)")
      let refused = try place.run(command + ["--audit", "none"], environment: environment)
      #expect(
        refused.status == 15 && refused.text.contains("/etc/vnvram/vnvram-swtpm.options, line 1"), "\(refused.text)")
    }
    #expect(wasRecorded("audit.file") && !wasRecorded("audit.other"))
  }

  /// A host's options don't keep managers from asking what there is.
  @Test func notForQuestions() throws {
    try write("--nonsense\n")
    for question in [["socket", "--print-capabilities"], ["socket", "--print-info", "1"], ["--help"], ["--version"]] {
      let outcome = try place.run(
        ["vnvram-swtpm"] + question, environment: ["VNVRAM_SWTPM_OPTIONS": place.path("log.options")])
      #expect(outcome.status == 0, "\(outcome.text)")
    }
  }

  @Test(arguments: [
    "--nonsense", "nonsense", "--tpm2", "--tpmstate dir=/x", "--key file=/x", "--daemon", "--audit", "--audit relative",
    "--anchor relative", "--anchor tpm:0x1800001,relative", "--key-timeout never", "--key-timeout",
    "--on-key-loss=panic",
    "--fail-on-encrypted-drive maybe", "--seccomp kill", "--chroot /", "\u{0}", "--audit /a\n--bad",
    "always", "always --tpm2", "always --audit relative", "always always --upcall", "alwaysx --upcall",
    "--require-audit yes",
  ]) func wrongLines(text: String) throws {
    try write("# a comment\n\(text)\n")
    let outcome = try run()
    #expect(outcome.status == 2, "\(outcome.text)")
    #expect(outcome.text.contains("log.options"), "\(outcome.text)")
    #expect(place.names == ["tpm.vnvram"])
  }

  /// The message says which line.
  @Test func theLineIsNamed() throws {
    try write("# a comment\n\n--nonsense\n")
    #expect(try run().text.contains("log.options, line 3: unknown option --nonsense"))
  }

  @Test func permissions() throws {
    for mode in [0o660, 0o606, 0o622] {
      try write("--audit none\n", mode: mode)
      let outcome = try run()
      #expect(outcome.status == 15 && outcome.text.contains("chmod go-w"), "\(outcome.text)")
    }
    try write("--audit none\n", mode: 0o644)
    #expect(try run().status == 0)
    #expect(try run(options: place.folder).status == 15, "a folder")
    #expect(try run(options: place.path("log.absent")).status == 11, "one that is named must be there")
    try write(String(repeating: "#", count: 20_000))
    #expect(try run().status == 2, "too long")
  }

  /// Not "no file": it may have options that matter. Root without its rights is as any other user.
  @Test(.enabled(if: geteuid() == 0)) func unreadable() throws {
    try FileManager.default.createDirectory(atPath: place.path("etc"), withIntermediateDirectories: false)
    try place.write(Array("--audit none\n".utf8), "etc/options")
    for (path, mode) in [("etc", 0o700), ("etc/options", 0o600)] as [(String, mode_t)] {
      let given = unsafe chown(place.path(path), 65534, 65534) == 0 && chmod(place.path(path), mode) == 0
      #expect(given)
    }
    let outcome = try place.run(
      [
        "setpriv", "--bounding-set=-dac_override,-dac_read_search", "vnvram-swtpm", "socket", "--print-states",
        "--tpm2", "--tpmstate", "backend-uri=vnvram://\(place.image)",
      ], environment: ["VNVRAM_SWTPM_OPTIONS": place.path("etc/options")])
    #expect(outcome.status == 15 && outcome.text.contains("chmod 644"), "\(outcome.text)")
  }

  @Test(.enabled(if: geteuid() == 0)) func ownedByAnother() throws {
    try write("--audit none\n", mode: 0o644)
    let given = unsafe chown(place.path("log.options"), 65534, 65534) == 0
    #expect(given)
    let outcome = try run()
    #expect(outcome.status == 15 && outcome.text.contains("belongs to user 65534"), "\(outcome.text)")
  }
}
