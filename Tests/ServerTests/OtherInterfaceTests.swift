import Foundation
import TestSupport
import Testing

/// swtpm's interfaces that aren't served here: `chardev` and `cuse`.
@Suite struct OtherInterfaceTests {
  private static let report = "#!/bin/sh\nprintf '%s\\n' diverted \"$@\"; grep SigBlk /proc/self/status\nexit 7\n"

  /// The program in a folder of its own under swtpm's name, with what dpkg-divert put aside beside it.
  private func install(_ place: Place, aside: String?) throws {
    // By other processes: one that this process starts meanwhile would have a file open for writing, which then can't
    // be run.
    let script = """
      mkdir bin && cp "$1" bin/vnvram-swtpm && ln -s vnvram-swtpm bin/swtpm || exit 50
      [ -z "$2" ] || { printf '%s' "$2" >bin/swtpm.distrib && chmod 755 bin/swtpm.distrib; }
      """
    let made = try place.run(["bash", "-c", script, "bash", Program.directory + "/vnvram-swtpm", aside ?? ""])
    try TestFailure.unless(made.status == 0, made.text)
  }

  @Test(arguments: ["chardev", "cuse"]) func theDivertedProgram(interface: String) throws {
    let place = try Place(nil)
    try install(place, aside: Self.report)
    let words = [interface, "--vtpm-proxy", "--tpmstate", "dir=a b", ""]
    let outcome = try place.run([place.path("bin/swtpm")] + words)
    #expect(outcome.status == 7)
    let lines = outcome.text.split(separator: "\n", omittingEmptySubsequences: false)
    #expect(
      lines.prefix(6).map(String.init) == ["diverted", interface, "--vtpm-proxy", "--tpmstate", "dir=a b", ""],
      "\(outcome.text)")
    #expect(outcome.text.contains("SigBlk:\t0000000000000000"), "it inherits nothing of ours")
    // By the path: there is none beside what is run.
    let elsewhere = try place.run(["bash", "-c", "PATH=\(place.path("bin")):$PATH vnvram-swtpm \(interface)"])
    #expect(elsewhere.status == 2 && elsewhere.text.contains(interface), "\(elsewhere.text)")
  }

  /// What is served here, or is neither's, stays here, whatever it says.
  @Test func everythingElse() throws {
    let place = try Place(nil)
    try install(place, aside: Self.report)
    for words in [["socket"], ["socket", "--chroot", "/"], ["nonsense"], [], ["--tpm2"], ["socket", "chardev"]] {
      let outcome = try place.run([place.path("bin/swtpm")] + words)
      #expect(outcome.status == 2 && !outcome.text.contains("diverted"), "\(words): \(outcome.text)")
      #expect(outcome.text.hasPrefix("vnvram-swtpm: "), "\(outcome.text)")
    }
    for word in ["--help", "--version", "-h"] {
      let outcome = try place.run([place.path("bin/swtpm"), word])
      #expect(outcome.status == 0 && outcome.text.contains("vnvram-swtpm"), "\(outcome.text)")
    }
  }

  /// Nothing beside it, or this very program once more: the message says what there is.
  @Test(arguments: ["nothing", "itself"]) func noOtherProgram(aside: String) throws {
    let place = try Place(nil)
    try install(place, aside: nil)
    if aside == "itself" {
      try FileManager.default.createSymbolicLink(
        atPath: place.path("bin/swtpm.distrib"), withDestinationPath: "vnvram-swtpm")
    }
    for interface in ["chardev", "cuse"] {
      let outcome = try place.run([place.path("bin/swtpm"), interface, "--vtpm-proxy"])
      #expect(outcome.status == 2, "\(outcome.text)")
      for word in [interface, "\"socket\"", "Unix sockets"] { #expect(outcome.text.contains(word), "\(outcome.text)") }
    }
  }
}
