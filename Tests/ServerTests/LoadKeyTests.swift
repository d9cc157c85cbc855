import Foundation
import TestSupport
import Testing

/// The unit that loads a key at boot: what it would run, as a user that nothing else runs as.
@Suite struct LoadKeyTests {
  private static let unit = RequestKeyRule.sources + "/systemd/vnvram-key@.service"

  /// The unit, installed as `make install` does.
  private static func text(_ programs: String) throws -> String {
    try String(contentsOfFile: unit, encoding: .utf8).replacingOccurrences(of: "@BINDIR@", with: programs)
      .replacingOccurrences(of: "@DOCDIR@", with: "/usr/share/doc/vnvram")
  }

  @Test(.enabled(if: File.exists("/usr/bin/systemd-analyze"), "there is no systemd-analyze")) func isValid() throws {
    let place = try Place()
    let name = "vnvram-key@vm-7.service"
    try place.write(Array(try Self.text(Program.directory).utf8), name)
    let outcome = try place.run(["systemd-analyze", "verify", "--man=no", place.path(name)])
    #expect(outcome.status == 0 && outcome.text.isEmpty, "\(outcome.text)")
  }

  @Test(.enabled(if: geteuid() == 0, "another user's keyring needs root")) func staysWithoutAProcess() throws {
    let place = try Place()
    let user = "\(Int.random(in: 1_000_000..<2_000_000))"
    // By a process that writes nothing else: a file that anybody has open for writing can't be run.
    try place.run(["cp", "\(Program.directory)/vnvram", place.path("vnvram")])
    try place.write(place.key.content, "credentials-\(place.key.name)")
    for path in [place.path("credentials-\(place.key.name)"), place.folder] {
      let given = unsafe chown(path, uid_t(user) ?? 0, uid_t(user) ?? 0) == 0
      #expect(given)
    }
    func command(_ line: String) throws -> String {
      let lines = try Self.text(place.folder).split(separator: "\n")
      let found = try #require(lines.first { $0.hasPrefix(line + "=") })
      return found.dropFirst(line.count + 1).replacingOccurrences(of: "%i", with: place.key.name)
        .replacingOccurrences(of: "${CREDENTIALS_DIRECTORY}/", with: place.path("credentials-"))
    }
    // A session keyring of its own, as systemd gives each service.
    func asUser(_ line: String) throws -> Place.Outcome {
      try place.run(
        ["setpriv", "--reuid", user, "--regid", user, "--clear-groups", "keyctl", "session", "-", "sh", "-c", line],
        environment: ["VNVRAM_AUDIT_LOG": place.path("log-of-uses")])
    }
    let loaded = try asUser(try command("ExecStart"))
    #expect(loaded.status == 0, "\(loaded.text)")
    usleep(200_000)
    let found = try asUser(
      "keyctl link @u @s; keyctl pipe $(keyctl search @u user vnvram:\(place.key.name)) | cmp - credentials-\(place.key.name)"
    )
    #expect(found.status == 0, "\(found.text)")
    let stop = try command("ExecStop")
    #expect(stop.hasPrefix("-"), "a key that is gone already is no failure")
    #expect(try asUser(String(stop.dropFirst())).status == 0)
    #expect(try asUser("keyctl search @u user vnvram:\(place.key.name)").status != 0)
  }
}
