import Foundation
import TestSupport
import Testing

/// A libvirtd of a test's own, as a system's, in namespaces of its own (`Libvirt/libvirtd.sh`). All that it starts ends
/// with this object, by SIGKILL: unshare(1) passes no other signal on.
final class Libvirt {
  static let unavailable: Comment = "libvirtd can't be run in namespaces of its own here"

  /// Namespaces are root's to make.
  static let isAvailable =
    VirtualMachine.isAvailable && geteuid() == 0 && File.exists("/usr/sbin/libvirtd") && File.exists("/usr/bin/virsh")
    && (try? Child(["unshare", "--mount", "--net", "--pid", "--fork", "true"], in: NSTemporaryDirectory()).outcome()
      .status) == 0

  private static let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent().path + "/Libvirt/libvirtd.sh"

  private let place: Place
  private let process: Child
  /// The process that is the first one inside.
  private let first: String

  /// With `programs`, a folder whose programs are found before the system's: `swtpm` under that name; and with what is
  /// in its file of options.
  init(_ place: Place, programs: String, options: [String] = []) throws {
    self.place = place
    try place.write(Array(options.map { $0 + "\n" }.joined().utf8), "options")
    for name in ["vmlinuz", "initrd"] {
      try FileManager.default.createSymbolicLink(
        atPath: place.path(name), withDestinationPath: "\(VirtualMachine.guest)/\(name)")
    }
    let process = try place.start(
      ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "bash", Self.script, place.folder, programs])
    self.process = process
    for _ in 0..<6000 where process.isRunning && !File.exists(place.path("ready")) { usleep(10_000) }
    let children = try? String(
      contentsOfFile: "/proc/\(process.identifier)/task/\(process.identifier)/children", encoding: .utf8)
    guard let first = children?.split(separator: " ").first, File.exists(place.path("ready")) else {
      process.kill()
      _ = process.wait()
      throw TestFailure("libvirtd is not up: \(process.text)")
    }
    self.first = String(first)
  }

  deinit {
    process.kill()
    _ = process.wait()
  }

  /// Runs a program where libvirtd is.
  @discardableResult
  func run(_ arguments: String...) throws -> Place.Outcome {
    try place.run(["nsenter", "--target", first, "--mount", "--net", "--pid"] + arguments)
  }

  /// Runs a line of shell there that has to succeed.
  @discardableResult
  func shell(_ line: String) throws -> String {
    let outcome = try run("sh", "-ec", line)
    try TestFailure.unless(outcome.status == 0, "\(line): \(outcome.text)")
    return outcome.text
  }

  @discardableResult
  func virsh(_ arguments: [String]) throws -> String {
    let outcome = try place.run(
      ["nsenter", "--target", first, "--mount", "--net", "--pid", "virsh", "-c", "qemu:///system"] + arguments)
    if outcome.status == 0 { return outcome.text }
    let log = try run("sh", "-c", "tail -n 20 /var/log/swtpm/libvirt/qemu/*.log /var/log/libvirt/qemu/*.log").text
    throw TestFailure("virsh \(arguments): \(outcome.text)\n\(log)")
  }

  /// Starts `virsh`, which may take its time.
  func startVirsh(_ arguments: String...) throws -> Child {
    try place.start(
      ["nsenter", "--target", first, "--mount", "--net", "--pid", "virsh", "-c", "qemu:///system"] + arguments)
  }

  /// Replaces the file of options.
  func setOptions(_ options: [String]) throws {
    try shell("printf '%s\\n' \(options.map { "'\($0)'" }.joined(separator: " ")) >/run/vnvram/options")
  }

  /// A path inside, as it is reached from here.
  func path(_ inside: String) -> String { "/proc/\(first)/root\(inside)" }
}
