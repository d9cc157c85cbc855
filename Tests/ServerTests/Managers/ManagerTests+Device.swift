import Foundation
import TestSupport
import Testing

/// A container of Incus has a TPM of the host's kernel, which vnvram-swtpm can't make.
extension ManagerTests {
  /// Under swtpm's name the command line comes to Debian's swtpm, which needs /dev/vtpmx.
  @Test(.enabled(if: !File.exists("/dev/vtpmx"), "it would make a TPM of this host")) func incusContainer() throws {
    let host = try ManagedHost([])
    let programs = try host.makeFolder("bin")
    // By a process of its own: a copy that is open for writing, in a child of another test's too, can't be run.
    let copied = try host.run(["cp", Program.directory + "/vnvram-swtpm", "\(programs)/swtpm"])
    #expect(copied.status == 0, "\(copied.text)")
    try FileManager.default.createSymbolicLink(
      atPath: "\(programs)/swtpm.distrib", withDestinationPath: "/usr/bin/swtpm")
    let state = try host.makeFolder("containers/c1/tpm.tpm-c1")
    let outcome = try host.run([
      "\(programs)/swtpm", "chardev", "--tpm2", "--tpmstate", "dir=\(state)", "--vtpm-proxy",
    ])
    #expect(outcome.status != 0 && outcome.text.contains("/dev/vtpmx"), "\(outcome.text)")
    #expect(try host.names(state).filter { $0.hasSuffix("permall") } == [], "no image, and no state of swtpm's")
  }
}
