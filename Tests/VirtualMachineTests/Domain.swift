import TestSupport

/// A domain under libvirt, and the guest in it. QEMU is another one after each start and each restore, and so is this.
struct Domain: Guest {
  static let name = "vm7"
  static let identifier = "6a2f41a3-c54c-fce8-32d2-0324e1c32e22"
  /// Where libvirt has a TPM keep its state.
  static let state = "/var/lib/libvirt/swtpm/\(identifier)/tpm2"
  private static let console = "/run/serial/console"
  private static let socket = "/run/serial/lines"

  let lines: LineSocket
  private let libvirt: Libvirt

  /// Runs the `virsh` that starts or restores it.
  init(_ libvirt: Libvirt, _ arguments: String...) throws {
    self.libvirt = libvirt
    try libvirt.shell("rm -f \(Self.socket)")
    try libvirt.virsh(arguments)
    lines = try LineSocket(path: libvirt.path(Self.socket)) { true }
  }

  func failure(_ text: String) -> TestFailure {
    let logs = try? libvirt.run(
      "sh", "-c", "tail -n 30 /var/log/libvirt/qemu/*.log /var/log/swtpm/libvirt/qemu/*.log \(Self.console)")
    return TestFailure("\(text)\n\(logs?.text ?? "")")
  }

  /// Its definition.
  static func definition(encryption: String) -> String {
    """
    <domain type='qemu'>
      <name>\(name)</name>
      <uuid>\(identifier)</uuid>
      <memory unit='MiB'>256</memory>
      <os>
        <type arch='x86_64' machine='q35'>hvm</type>
        <kernel>/run/guest/vmlinuz</kernel>
        <initrd>/run/guest/initrd</initrd>
        <cmdline>\(VirtualMachine.kernelOptions)</cmdline>
      </os>
      <features><acpi/></features>
      <devices>
        <emulator>/usr/bin/qemu-system-x86_64</emulator>
        <serial type='file'><source path='\(console)'/></serial>
        <serial type='unix'><source mode='bind' path='\(socket)'/></serial>
        <tpm model='tpm-crb'><backend type='emulator' version='2.0'>\(encryption)</backend></tpm>
        <controller type='usb' model='none'/>
        <memballoon model='none'/>
      </devices>
    </domain>
    """
  }
}
