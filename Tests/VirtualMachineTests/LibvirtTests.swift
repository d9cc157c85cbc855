import Foundation
import TestSupport
import Testing

/// A domain with `<tpm>` under Debian's libvirt, which finds vnvram-swtpm under the name swtpm and uses it as that.
@Suite(.enabled(if: Libvirt.isAvailable, Libvirt.unavailable), .enabled(if: Manager.isServed, Manager.unserved))
struct LibvirtTests {
  private static let secret = "e3b2a1a0-7d1c-4b6e-9a55-3c1f0e2d4b6a"

  /// All that a domain goes through, its TPM's state under a password from libvirt's secrets.
  @Test func encryptedDomain() throws {
    let place = try Place()
    let libvirt = try Libvirt(place, programs: Manager.programs(place))
    try place.write(
      Array(
        "<secret private='yes'><uuid>\(Self.secret)</uuid><usage type='vtpm'><name>vm7</name></usage></secret>".utf8),
      "secret.xml")
    try libvirt.virsh(["secret-define", place.path("secret.xml")])
    try setPassword("correct horse battery", libvirt, place)
    try place.write(Array(Domain.definition(encryption: "<encryption secret='\(Self.secret)'/>").utf8), "domain.xml")
    try libvirt.virsh(["define", place.path("domain.xml")])
    try live(libvirt)

    // With another password there is no domain, and the state stays.
    let before = try libvirt.shell("cd \(Domain.state) && sha256sum *")
    try setPassword("another one", libvirt, place)
    let start = try libvirt.run("virsh", "-c", "qemu:///system", "start", Domain.name)
    #expect(start.status != 0, "\(start.text)")
    #expect(try libvirt.shell("cd \(Domain.state) && sha256sum *") == before)
    try libvirt.virsh(["undefine", Domain.name])
    #expect(try libvirt.run("test", "-e", Domain.state).status != 0)
  }

  private func setPassword(_ password: String, _ libvirt: Libvirt, _ place: Place) throws {
    try place.write(Array(password.utf8), "password")
    try libvirt.virsh(["secret-set-value", Self.secret, "--file", place.path("password"), "--plain"])
  }

  /// Start, reset, save, restore, destroy, start.
  private func live(_ libvirt: Libvirt) throws {
    var domain = try Domain(libvirt, "start", Domain.name)
    try domain.waitUntilUp()
    // swtpm_setup has put the certificate of the endorsement key there.
    #expect(try domain.expect("tpm2 getcap handles-nv-index").contains("0x1C00002"))
    let key = try domain.store()
    try libvirt.virsh(["reset", Domain.name])
    try domain.waitUntilUp()
    #expect(try domain.read() == Domain.secret)
    try domain.expect("tpm2 pcrextend 16:sha256=\(String(repeating: "ab", count: 32))")

    try libvirt.virsh(["save", Domain.name, "/var/lib/libvirt/saved"])
    domain = try Domain(libvirt, "restore", "/var/lib/libvirt/saved")
    #expect(try domain.register() == domain.extended())
    #expect(try domain.read() == Domain.secret)
    try domain.write("after restoring.")

    try libvirt.virsh(["destroy", Domain.name])
    domain = try Domain(libvirt, "start", Domain.name)
    try domain.waitUntilUp()
    #expect(try domain.read() == "after restoring.")
    #expect(try domain.publicPart() == key)
    #expect(try domain.register() == Domain.reset)
    try libvirt.virsh(["destroy", Domain.name])
  }
}
