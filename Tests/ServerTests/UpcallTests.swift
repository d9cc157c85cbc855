import Foundation
import TestSupport
import Testing

/// A key that is in no keyring, and that the kernel gets from the project's provider, by the project's rule. The server
/// asks for it confined: the kernel runs the provider outside of all that.
@Suite(.enabled(if: RequestKeyRule.isAvailable, "\(RequestKeyRule.unavailable)"))
struct UpcallTests {
  private func provide(_ place: Place, _ user: String = "root") throws {
    try RequestKeyRule.put(place.key.content, place.key.name, of: user, in: place.path("keys"))
  }

  private func rule(_ place: Place, delay: Int? = nil) throws -> RequestKeyRule {
    guard let delay else { return try RequestKeyRule(place.key.name, keys: place.path("keys")) }
    try place.write(
      Array("#!/bin/sh\nsleep \(delay)\nexec \(RequestKeyRule.provider) --keys \(place.path("keys")) \"$@\"\n".utf8),
      "slow")
    _ = unsafe chmod(place.path("slow"), 0o700)
    return try RequestKeyRule(place.key.name, keys: "", program: place.path("slow"))
  }

  private func audit(_ place: Place) throws -> String {
    String(decoding: try place.bytes("audit.jsonl"), as: UTF8.self)
  }

  @Test(arguments: [[], MissingKeyTests.waits]) func comes(options: [String]) throws {
    let place = try MissingKeyTests.seeded()
    let rule = try rule(place)
    defer { rule.remove() }
    try provide(place)
    let server = try TestServer(place, ["--upcall"] + options + TestServer.startsByItself)
    #expect(try ClientTests.readSecret(server) == ClientTests.secret)
    #expect(try audit(place).contains("/sbin/request-key"))
    #expect(server.end() == 0)
    #expect(try place.wasClosedCleanly())
    // Nothing of it stays in the session's keyring.
    let found = try place.run(["keyctl", "search", "@s", "user", "vnvram:\(place.key.name)"])
    #expect(found.status != 0, "\(found.text)")
  }

  /// Who asks is another user, as under libvirt, and gets what is that user's.
  @Test func comesForAnotherUser() throws {
    let place = try MissingKeyTests.seeded()
    let rule = try rule(place)
    defer { rule.remove() }
    let user = try unsafe #require(getpwnam("nobody"))
    let audit = place.path("audit-of-nobody")
    try FileManager.default.createDirectory(atPath: audit, withIntermediateDirectories: false)
    for path in [place.folder, audit] {
      let given = unsafe chown(path, user.pointee.pw_uid, user.pointee.pw_gid) == 0
      #expect(given)
    }
    let options = ["--runas", "nobody", "--audit", audit + "/log", "--upcall"]
    try provide(place)
    let refused = try TestServer(place, options)
    let start = try refused.control("-i")
    #expect(start.status != 0, "the key is root's alone: \(refused.log)")
    _ = refused.end()
    try provide(place, "nobody")
    let server = try TestServer(place, options + TestServer.startsByItself)
    #expect(try ClientTests.readSecret(server) == ClientTests.secret)
    #expect(server.end() == 0)
  }

  /// Whoever is asked takes his time; the control channel answers meanwhile, and INIT is held, whatever is done in the
  /// end.
  @Test(arguments: [[], MissingKeyTests.waits]) func theServerIsNotHeldUp(options: [String]) throws {
    let place = try MissingKeyTests.seeded()
    let rule = try rule(place, delay: 2)
    defer { rule.remove() }
    try provide(place)
    let clock = ContinuousClock()
    let start = clock.now
    let server = try TestServer(place, ["--upcall"] + options)
    let waiting = try server.startControl("-i")
    let capabilities = try server.control("-c")
    #expect(capabilities.status == 0)
    #expect(clock.now - start < .seconds(2))
    #expect(waiting.isRunning)
    #expect(waiting.wait() == 0, "\(waiting.text) \(server.log)")
    #expect(clock.now - start >= .milliseconds(1900))
    #expect(try server.tpm2("tpm2_startup", "-c").status == 0)
    #expect(try ClientTests.readSecret(server) == ClientTests.secret)
    #expect(server.end() == 0)
  }

  /// A provider that has it only later is asked again.
  @Test func isAskedForAgain() throws {
    let place = try MissingKeyTests.seeded()
    let rule = try rule(place)
    defer { rule.remove() }
    let server = try TestServer(place, ["--upcall=yes"] + MissingKeyTests.waits)
    let waiting = try server.startControl("-i")
    try server.waitUntilLogged("waits for a key")
    try provide(place)
    #expect(waiting.wait() == 0, "\(waiting.text) \(server.log)")
    #expect(server.end() == 0)
  }

  @Test func isNotAskedForUnlessWanted() throws {
    let place = try MissingKeyTests.seeded()
    let rule = try rule(place)
    defer { rule.remove() }
    try provide(place)
    let outcome = try place.run(["vnvram", "status", place.image, "--no-upcall"])
    #expect(outcome.status == 3, "\(outcome.text)")
    #expect(try place.run(["vnvram", "status", place.image]).status == 0)
    let added = ["--no-upcall ", ""].map { "vnvram slot add \(place.image) --passphrase-fd 5 \($0)5<<<word" }
    #expect(try added.map { try place.run(["bash", "-c", $0]).status } == [3, 0])
    #expect(try audit(place).contains("/sbin/request-key"), "as the record says it when somebody is asked")
    let before = try audit(place).utf8.count
    let server = try TestServer(place, ["--upcall=no"] + MissingKeyTests.waits)
    try server.waitUntilLogged("waits for a key")
    // Longer than until the first two times it would ask.
    usleep(1_200_000)
    let since = String(decoding: try place.bytes("audit.jsonl").dropFirst(before), as: UTF8.self)
    #expect(since.contains("\"missing\"") && !since.contains("/sbin/request-key"), "\(since)")
    #expect(server.end() == 0)
  }
}

/// The provider that the rule names, run by hand.
@Suite struct KeyProviderTests {
  private let place: Place

  init() throws {
    place = try Place()
    try RequestKeyRule.put(place.key.content, "vm7", of: user, in: place.path("keys"))
    _ = unsafe chmod(place.path("keys"), 0o700)
  }

  private let user = unsafe String(cString: getpwuid(geteuid()).pointee.pw_name)

  private func run(_ key: String, _ uid: uid_t = geteuid()) throws -> Child.Outcome {
    try Child([RequestKeyRule.provider, "--keys", place.path("keys"), key, "\(uid)"], in: place.folder).outcome()
  }

  @Test func givesAFile() throws {
    let outcome = try run("vnvram:vm7")
    #expect(outcome.status == 0 && outcome.output == place.key.content, "\(outcome.errorText)")
  }

  /// Sealed under no key, since this system may have none; its name is verified all the same.
  @Test(.enabled(if: File.exists("/usr/bin/systemd-creds"), "there is no systemd-creds"))
  func opensACredential() throws {
    for (name, file) in [("vm8", "vm8.cred"), ("vm8", "vm9.cred")] {
      let made = try place.run(
        [
          "systemd-creds", "encrypt", "--with-key=auto-initrd", "--name=\(name)", "keys/\(user)/vm7.key",
          "keys/\(user)/\(file)",
        ])
      try #require(made.status == 0, "\(made.text)")
      _ = unsafe chmod(place.path("keys/\(user)/\(file)"), 0o600)
    }
    let outcome = try run("vnvram:vm8")
    #expect(outcome.status == 0 && outcome.output == place.key.content, "\(outcome.errorText)")
    let other = try run("vnvram:vm9")
    #expect(other.status != 0 && other.output.isEmpty, "it was sealed as another key: \(other.errorText)")
  }

  /// What is asked for comes from anybody.
  @Test(arguments: [
    "vm7", "vnvram:", "vnvram:../root/vm7", "vnvram:.", "vnvram:..", "vnvram:-x", "vnvram:a b", "vnvram:a\nb",
    "vnvram:x:vm7",
    "vnvram:" + String(repeating: "a", count: 121), "vnvram:vm8",
  ]) func refusesNames(key: String) throws {
    let outcome = try run(key)
    #expect(outcome.status != 0 && outcome.output.isEmpty && !outcome.errorText.isEmpty)
  }

  @Test func refusesOtherUsers() throws {
    for uid in [geteuid() + 1, 4_000_000_000] {
      let outcome = try run("vnvram:vm7", uid)
      #expect(outcome.status != 0 && outcome.output.isEmpty, "\(outcome.errorText)")
    }
  }

  private static let canHavePlacesOfItsOwn =
    geteuid() == 0 && (try? Child(["unshare", "-m", "true"], in: "/").outcome().status) == 0

  /// A user may be called like another's number.
  @Test(.enabled(if: KeyProviderTests.canHavePlacesOfItsOwn, "no mount namespaces here"))
  func namesThatAreNumbers() throws {
    let users = "root:x:0:0::/:/bin/sh\n4242:x:5555:5555::/:/bin/sh\nother:x:4242:4242::/:/bin/sh\n"
    try place.write(Array(users.utf8), "passwd")
    try RequestKeyRule.put(place.key.content, "vm7", of: "4242", in: place.path("keys"))
    let ask = { (uid: Int) in
      try Child(
        [
          "unshare", "-m", "sh", "-c", "mount --bind passwd /etc/passwd && exec \"$@\"", "sh", RequestKeyRule.provider,
          "--keys", place.path("keys"), "vnvram:vm7", "\(uid)",
        ], in: place.folder
      ).outcome()
    }
    let other = try ask(4242)
    #expect(other.status != 0 && other.output.isEmpty && other.errorText.contains("other"), "\(other.errorText)")
    #expect(try ask(5555).output == place.key.content)
  }

  @Test func refusesWhatIsOpenToOthers() throws {
    let file = "keys/\(user)/vm7.key"
    for (path, mode) in [(file, 0o640), (file, 0o604), ("keys/\(user)", 0o750), ("keys", 0o701)] as [(String, mode_t)] {
      _ = unsafe chmod(place.path(path), mode)
      let outcome = try run("vnvram:vm7")
      #expect(
        outcome.status != 0 && outcome.output.isEmpty && outcome.errorText.contains("others"), "\(outcome.errorText)")
      _ = unsafe chmod(place.path(path), path == file ? 0o600 : 0o700)
    }
    #expect(try run("vnvram:vm7").status == 0)
    try FileManager.default.moveItem(atPath: place.path(file), toPath: place.path("elsewhere"))
    try FileManager.default.createSymbolicLink(atPath: place.path(file), withDestinationPath: place.path("elsewhere"))
    let linked = try run("vnvram:vm7")
    #expect(linked.status != 0 && linked.output.isEmpty && linked.errorText.contains("symbolic link"))
  }

  @Test func refusesAnotherSize() throws {
    try place.write([1, 2, 3], "keys/\(user)/vm7.key")
    let outcome = try run("vnvram:vm7")
    #expect(outcome.status != 0 && outcome.output.isEmpty && outcome.errorText.contains("3 bytes"))
  }
}
