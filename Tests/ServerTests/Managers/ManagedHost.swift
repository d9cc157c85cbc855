import Foundation
import TestSupport

/// A host of one test's own whose managers find vnvram-swtpm under swtpm's name, as `make install-as-swtpm` has it, and
/// with it a file of options for every server of the host. Debian's other tools (swtpm_setup, swtpm_ioctl) are what
/// they are.
final class ManagedHost {
  let place: Place
  private let environment: [String: String]

  /// - Parameter options: lines of the file of options; each use of a key is recorded in the place, and no key asked for.
  init(_ options: [String]) throws {
    place = try Place(nil)
    let programs = place.path("programs")
    try FileManager.default.createDirectory(atPath: programs, withIntermediateDirectories: true)
    for (name, program) in [("swtpm", "vnvram-swtpm"), ("vnvram", "vnvram")] {
      try FileManager.default.createSymbolicLink(
        atPath: "\(programs)/\(name)", withDestinationPath: "\(Program.directory)/\(program)")
    }
    let lines = options + ["--audit \(place.path("audit.host"))", "--upcall=no"]
    try place.write(Array(lines.map { $0 + "\n" }.joined().utf8), "options")
    let path = ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin"
    environment = [
      "PATH": "\(programs):\(Program.directory):\(path)", "VNVRAM_SWTPM_OPTIONS": place.path("options"),
      // Where Debian's swtpm_setup looks for its configuration first.
      "XDG_CONFIG_HOME": place.path("configuration"),
      // One for all working directories, as a host has it.
      "VNVRAM_MARKERS": place.path("markers"),
    ]
  }

  func path(_ name: String) -> String { place.path(name) }

  func makeFolder(_ name: String) throws -> String {
    try FileManager.default.createDirectory(atPath: path(name), withIntermediateDirectories: true)
    return path(name)
  }

  /// Starts a program with `folder` as its working directory.
  func start(_ arguments: [String], in folder: String? = nil) throws -> Child {
    try Child(
      arguments, in: folder ?? place.folder, merged: true, output: path("log-\(UUID().uuidString)"),
      environment: environment)
  }

  /// Runs one and waits for it.
  @discardableResult
  func run(_ arguments: [String], in folder: String? = nil) throws -> Child.Outcome {
    try start(arguments, in: folder).outcome()
  }

  /// As `run`, and it has to succeed.
  @discardableResult
  func expect(_ arguments: [String], in folder: String? = nil) throws -> String {
    let outcome = try run(arguments, in: folder)
    try TestFailure.unless(outcome.status == 0, "\(arguments): \(outcome.status): \(outcome.text)")
    return outcome.text
  }

  /// Waits until a daemon has ended, whether or not anybody collects it.
  static func waitForTheEnd(of process: pid_t) {
    for _ in 0..<10_000 {
      guard let status = try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8) else { return }
      if status.split(separator: ")").last?.hasPrefix(" Z") ?? true { return }
      usleep(2000)
    }
  }

  /// A copy of a folder or a file, as a manager makes it: with owner, mode and whatever lies beside the image.
  func copy(_ from: String, to: String) throws { try expect(["cp", "-a", from, to]) }

  /// Names in a folder, sorted.
  func names(_ folder: String) throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
  }

  /// A configuration for swtpm_setup, with a certificate authority of the test's own.
  ///
  /// - Returns: its path, which is also where swtpm_setup looks for it by itself.
  func configureSetup() throws -> String {
    let folder = try makeFolder("configuration")
    let authority = try makeFolder("authority")
    let files = [
      (
        "swtpm-localca.conf",
        """
        statedir = \(authority)
        signingkey = \(authority)/key.pem
        issuercert = \(authority)/certificate.pem
        certserial = \(authority)/serial

        """
      ),
      ("swtpm-localca.options", "--platform-manufacturer vnvram\n--platform-version 1\n--platform-model test\n"),
      (
        "swtpm_setup.conf",
        """
        create_certs_tool = /usr/bin/swtpm_localca
        create_certs_tool_config = \(folder)/swtpm-localca.conf
        create_certs_tool_options = \(folder)/swtpm-localca.options
        active_pcr_banks = sha256

        """
      ),
    ]
    for (name, text) in files { try place.write(Array(text.utf8), "configuration/\(name)") }
    return "\(folder)/swtpm_setup.conf"
  }
}
