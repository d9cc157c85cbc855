import Foundation
import TestSupport
import Testing

/// A domain whose definition says nothing of keys: the options of the host's file name one for each machine, and it is
/// a kernel key of the user tss.
@Suite(.enabled(if: Libvirt.isAvailable, Libvirt.unavailable), .enabled(if: Manager.isServed, Manager.unserved))
final class LibvirtKeyTests {
  private let place: Place
  private let libvirt: Libvirt
  /// So that tests don't see each other's keys; the machine's identifier follows.
  private let prefix = "test-\(UUID().uuidString.prefix(8).lowercased())"
  private var key: String { "\(prefix)-\(Domain.identifier)" }
  private var options: [String] { ["--keyring-key \(prefix)-%u"] }

  init() throws {
    place = try Place()
    libvirt = try Libvirt(place, programs: Manager.programs(place), options: ["--keyring-key \(prefix)-%u"])
    try place.write(place.key.content, "key")
    try place.write(Array(Domain.definition(encryption: "").utf8), "domain.xml")
    try libvirt.virsh(["define", place.path("domain.xml")])
  }

  deinit { try? unloadKey() }

  /// As an operator does.
  private func manage(_ arguments: String) throws {
    try libvirt.shell(
      "runuser -u tss -- /run/programs/vnvram key \(arguments) --keyring user --audit /var/log/vnvram/audit.jsonl")
  }

  private func loadKey() throws { try manage("load \(key) --file - <\(place.path("key"))") }

  private func unloadKey() throws { try manage("unlink \(key)") }

  private func log() throws -> String { try libvirt.shell("cat /var/log/swtpm/libvirt/qemu/\(Domain.name)-swtpm.log") }

  private func expectLogged(_ text: String) throws {
    let log = try log()
    #expect(log.contains(text), "\(log)")
  }

  /// In the user keyring of tss: the first start makes the image, and all that a machine goes through needs nothing
  /// else.
  @Test func inTheUserKeyring() throws {
    try loadKey()
    var domain = try Domain(libvirt, "start", Domain.name)
    try domain.waitUntilUp()
    #expect(try domain.expect("tpm2 getcap handles-nv-index").contains("0x1C00002"))
    let key = try domain.store()
    try libvirt.virsh(["managedsave", Domain.name])
    domain = try Domain(libvirt, "start", Domain.name)
    #expect(try domain.register() == domain.extended())
    #expect(try domain.read() == Domain.secret)
    #expect(try domain.publicPart() == key)
    try libvirt.virsh(["destroy", Domain.name])
    let owner = try libvirt.shell("stat -c %U:%a \(Domain.state)/tpm2-00.permall")
    #expect(owner == "tss:600\n")

    // Gone, it is missing: the machine doesn't start, and the log says what to do.
    try unloadKey()
    let before = try libvirt.shell("cd \(Domain.state) && sha256sum *")
    let refused = try libvirt.run("virsh", "-c", "qemu:///system", "start", Domain.name)
    #expect(refused.status != 0, "\(refused.text)")
    try expectLogged("key \"\(self.key)\" is missing")
    #expect(try libvirt.shell("cd \(Domain.state) && sha256sum *") == before)

    // Told to wait, it starts once the key is there.
    try libvirt.setOptions(options + ["--fail-on-encrypted-drive=no"])
    let waiting = try libvirt.startVirsh("start", Domain.name)
    for _ in 0..<2000 where !(try log().contains("waits for a key")) { usleep(10_000) }
    #expect(waiting.isRunning, "\(waiting.text)")
    #expect(try libvirt.virsh(["domstate", Domain.name]).contains("paused"))
    try loadKey()
    #expect(waiting.wait() == 0, "\(waiting.text)")
    try libvirt.virsh(["destroy", Domain.name])
    try libvirt.virsh(["undefine", Domain.name])
    #expect(try libvirt.run("test", "-e", Domain.state).status != 0)
  }

  /// With no key at all there is no TPM, and nothing is left that would pass for one.
  @Test func nowhere() throws {
    let start = try libvirt.run("virsh", "-c", "qemu:///system", "start", Domain.name)
    #expect(start.status != 0, "\(start.text)")
    try expectLogged(key)
    #expect(try libvirt.run("test", "-e", "\(Domain.state)/tpm2-00.permall").status != 0)
  }

  /// From the provider, when it is asked for: by swtpm_setup's server and by libvirt's, both of which are tss.
  @Test(.enabled(if: RequestKeyRule.isAvailable, "\(RequestKeyRule.unavailable)")) func byUpcall() throws {
    let rule = try RequestKeyRule(prefix, keys: place.path("keys"))
    defer { rule.remove() }
    try RequestKeyRule.put(place.key.content, key, of: "tss", in: place.path("keys"))
    _ = unsafe chmod(place.path("keys"), 0o700)
    try libvirt.virsh(["start", Domain.name])
    #expect(try libvirt.shell("cat /var/log/vnvram/audit.jsonl").contains("/sbin/request-key"))
    try libvirt.virsh(["destroy", Domain.name])
    // Nothing of it stays for the next one but what the provider has.
    rule.remove()
    let refused = try libvirt.run("virsh", "-c", "qemu:///system", "start", Domain.name)
    #expect(refused.status != 0, "\(refused.text)")
    try expectLogged("key \"\(key)\" is missing")
  }
}
